"""What a file is by its name and its first bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from integrations import image_kinds
from integrations.image_kinds import HEIF_MEND, kind_of_content, why_unread
from integrations.images import UnreadableImage, find_images, image_size, read_image
from tests.integrations.test_images import UPRIGHT, exif

WRITTEN = {
    "JPEG": ("jpeg", ".jpg"),
    "PNG": ("png", ".png"),
    "GIF": ("gif", ".gif"),
    "BMP": ("bmp", ".bmp"),
    "TIFF": ("tiff", ".tif"),
    "WebP": ("webp", ".webp"),
    "AVIF": ("avif", ".avif"),
    "JPEG 2000": ("jpeg2000", ".jp2"),
}


@pytest.fixture
def picture() -> Image.Image:
    y, x = np.mgrid[0:48, 0:80]
    return Image.fromarray(np.stack([x * 3, y * 5, 255 - x - y * 2], axis=2).astype(np.uint8))


@pytest.mark.parametrize("name", WRITTEN)
def test_content_without_a_suffix_is_recognised(
    picture: Image.Image, tmp_path: Path, name: str
) -> None:
    format, suffix = WRITTEN[name]
    path = tmp_path / "scan.001"
    picture.save(path, format)
    assert kind_of_content(path) == (name, suffix)
    listing = find_images(tmp_path)
    assert not listing.images
    assert (
        f"{name} image by its content; rename it to scan.001{suffix}" in listing.skipped[0].reason
    )


@pytest.mark.parametrize(
    "content", [b"", b"BMP is a format", b"II", b"\0\0\0\x18ftypmp42isom", b"%PDF"]
)
def test_other_content_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert kind_of_content(path) is None
    assert why_unread(path) == ""


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("a.DNG", "develop it"),
        ("a.cr2", "develop it"),
        ("a.nef", "develop it"),
        ("a.arw", "develop it"),
        ("a.psd", "export it"),
        ("a.svg", "export it"),
        ("a.jxl", "save it as"),
        ("a.ico", "save it as"),
    ],
)
def test_formats_that_are_not_read_are_skipped_with_the_mend(
    tmp_path: Path, name: str, mend: str
) -> None:
    (tmp_path / name).write_bytes(b"II*\0\x08\0\0\0")
    listing = find_images(tmp_path)
    assert [each.path.name for each in listing.skipped] == [name]
    assert mend in listing.skipped[0].reason


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.json", "Thumbs.db", "README", "film.mov"):
        (tmp_path / name).write_bytes(b"text")
    listing = find_images(tmp_path)
    assert not listing.images
    assert not listing.skipped
    assert listing.other_files == {".txt": 2, ".json": 1, ".db": 1, "": 1, ".mov": 1}


def test_a_link_to_an_image_without_a_suffix(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "blob", "png")
    (tmp_path / "link").symlink_to("blob")
    assert [each.path.name for each in find_images(tmp_path).skipped] == ["blob", "link"]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_heic_is_read_upright(picture: Image.Image, tmp_path: Path, orientation: int) -> None:
    assert image_kinds.reads_heif()
    path = tmp_path / "IMG_0001.HEIC"
    # As bytes: of an Image.Exif pillow-heif writes no rotation into the file.
    picture.save(path, "HEIF", quality=95, exif=exif(orientation).tobytes())
    assert find_images(tmp_path).images == (path,)
    expected = UPRIGHT[orientation](np.asarray(picture))
    found = read_image(path)
    assert found.shape == expected.shape
    assert image_size(path) == (found.shape[1], found.shape[0])
    assert np.abs(found.astype(int) - expected).mean() < 4


def test_heic_named_jpg_is_read_by_its_content(picture: Image.Image, tmp_path: Path) -> None:
    assert image_kinds.reads_heif()
    path = tmp_path / "export.jpg"
    picture.save(path, "HEIF", quality=95)
    assert read_image(path).shape == (48, 80, 3)


def test_heic_without_the_plug_in_names_the_extra(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert image_kinds.reads_heif()
    picture.save(tmp_path / "a.heic", "HEIF")
    monkeypatch.setattr(image_kinds, "reads_heif", lambda: False)
    listing = find_images(tmp_path)
    assert not listing.images
    assert [(each.path.name, each.reason) for each in listing.skipped] == [("a.heic", HEIF_MEND)]


def test_a_heic_of_its_header_alone_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert find_images(tmp_path).skipped[0].reason == "the HEIC file is empty or cut off"
    with pytest.raises(UnreadableImage):
        read_image(path)
