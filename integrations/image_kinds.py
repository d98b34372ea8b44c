"""What kind of image a file is, by its name and by its first bytes, and what is to be done with it.

Signatures are those of the formats' own specifications; brands of ISO base media files are those of
HEIF (ISO/IEC 23008-12) and AVIF.
"""

from functools import cache
from pathlib import Path

from PIL import features

# What Pillow reads as a photo.
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe"}
    | {".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga"}
    | {".tif", ".tiff", ".webp"}
)
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_UNREAD = {
    "a camera's raw file is not read; develop it as JPEG or TIFF": """
        3fr arw cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef ptx raf raw
        rw2 rwl sr2 srf srw x3f""",
    "a drawing or layered file is not read; export it as PNG or JPEG": """
        ai cdr emf eps kra psb psd svg svgz wmf xcf""",
    "this image format is not read; save it as PNG or JPEG": """
        bpg dcm dds exr fit fits hdr icns ico jxl jxr nii pcx pfm pict qoi ras sgi wdp xbm xpm""",
}
UNREAD_SUFFIXES = {
    f".{suffix}": reason for reason, names in _UNREAD.items() for suffix in names.split()
}
# Of label files there may be as many as of images; they are not opened.
LABEL_SUFFIXES = frozenset({".csv", ".json", ".txt", ".xml", ".yaml", ".yml"})
HEIF = "HEIC"
HEIF_MEND = "HEIC is read with the extra heif: pip install 'regionspot-autolabel[heif]'"
AVIF_MEND = "the installed Pillow reads no AVIF; install its wheel, or save it as JPEG"

_HEADER = 32  # bytes
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", "PNG", ".png"),
    (b"GIF87a", "GIF", ".gif"),
    (b"GIF89a", "GIF", ".gif"),
    (b"II*\0", "TIFF", ".tif"),
    (b"MM\0*", "TIFF", ".tif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", ".jp2"),
    (b"\xff\x4f\xff\x51", "JPEG 2000", ".j2k"),
    (b"8BPS", "Photoshop", ".psd"),
    (b"\xff\x0a", "JPEG XL", ".jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", ".jxl"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # sizes of the header after the file's


def kind_of_content(path: Path) -> tuple[str, str] | None:
    """Name of the image format of a file's first bytes, and its suffix; None for other content.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
    for signature, name, suffix in _SIGNATURES:
        if header.startswith(signature):
            return name, suffix
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WebP", ".webp"
    if header[:2] == b"BM" and int.from_bytes(header[14:18], "little") in _BMP_HEADERS:
        return "BMP", ".bmp"
    if header[4:8] == b"ftyp":
        brands = {header[start : start + 4] for start in (8, 16, 20, 24, 28)}
        # HEIC and AVIF files both may list mif1.
        if brands & _AVIF_BRANDS:
            return "AVIF", ".avif"
        if brands & _HEIF_BRANDS:
            return HEIF, ".heic"
    return None


def why_unread(path: Path) -> str | None:
    """Why a file that is an image by its name or content is not read.

    Returns:
        One line with the mend; empty where the file is no image; None where it is read by its name.

    Raises:
        OSError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return AVIF_MEND if suffix == ".avif" and not features.check("avif") else None
    if suffix in HEIF_SUFFIXES:
        return _why_no_heif(path)
    if suffix in UNREAD_SUFFIXES:
        return UNREAD_SUFFIXES[suffix]
    kind = None if suffix in LABEL_SUFFIXES else kind_of_content(path)
    if kind is None:
        return ""
    name, ending = kind
    article = "an" if name == "AVIF" else "a"
    return f"{article} {name} image by its content; rename it to {path.name}{ending}"


def _why_no_heif(path: Path) -> str | None:
    if not reads_heif():
        return HEIF_MEND
    with path.open("rb") as file:
        first_box = int.from_bytes(file.read(4), "big")
    return None if path.stat().st_size > first_box else "the HEIC file is empty or cut off"


@cache
def reads_heif() -> bool:
    """Whether HEIC is read: registers Pillow's plug-in where it is installed.

    The plug-in turns an image by the file's own rotation, which is what counts in HEIF (ISO/IEC
    23008-12), and resets EXIF's orientation.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
