"""Every kind of image a folder may hold, written by Pillow and read back."""

import contextlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from integrations.images import (
    UnreadableImage,
    file_name_of_address,
    find_images,
    image_size,
    read_image,
)
from regionspot.errors import InputError

Photo = Callable[[str], Image.Image]

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


@pytest.fixture
def gradient() -> Image.Image:
    """A picture (H 24, W 40) no two corners of which look alike."""
    y, x = np.mgrid[0:24, 0:40]
    return Image.fromarray(np.stack([x * 6, y * 10, 255 - x * 3 - y * 5], axis=2).astype(np.uint8))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "avif"])
def test_orientation_is_undone_in_every_format(
    gradient: Image.Image, tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tmp_path / f"turned.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 95}
    gradient.save(path, exif=exif(orientation), **options)
    expected = UPRIGHT[orientation](np.asarray(gradient))
    found = read_image(path)
    assert found.shape == expected.shape
    assert image_size(path) == (found.shape[1], found.shape[0])
    assert np.abs(found.astype(int) - expected).mean() < 4


def test_orientation_after_the_pixels_of_a_png(gradient: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    gradient.save(path)
    data = path.read_bytes()
    body = b"eXIf" + exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = len(body[4:]).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    path.write_bytes(data[:-12] + chunk + data[-12:])
    assert image_size(path) == (24, 40)
    assert read_image(path).shape == (40, 24, 3)


def test_size_of_a_png_is_read_without_its_pixels(gradient: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    gradient.save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert image_size(path) == (40, 24)


def test_result_is_writable_and_contiguous(photos: Path) -> None:
    for path in sorted(photos.iterdir()):
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert image_size(path) == (image.shape[1], image.shape[0])


def test_grey_is_the_same_in_all_channels(photo: Photo, tmp_path: Path) -> None:
    grey = photo("chelsea").convert("L")
    grey.save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == np.asarray(grey)[:, :, None]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]


def test_16_bit_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "deep.tiff"
    Image.frombytes("I;16B", (2, 1), b"\x80\x00\xff\xff").save(path)
    assert read_image(path)[0, :, 0].tolist() == [128, 255]


def test_32_bit(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0, 65536]], np.int32)).save(path)
    with pytest.raises(UnreadableImage, match="32-bit pixels from 0 to 65536; save it"):
        read_image(path)


def test_cmyk_keeps_its_colours(photo: Photo, tmp_path: Path) -> None:
    original = photo("coffee")
    original.convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    found = read_image(tmp_path / "print.jpg")
    assert np.abs(found.astype(int) - np.asarray(original)).mean() < 3


def test_palette(photo: Photo, tmp_path: Path) -> None:
    original = photo("rocket").quantize(256)
    original.save(tmp_path / "few.png")
    original.save(tmp_path / "few.gif")
    assert (read_image(tmp_path / "few.png") == np.asarray(original.convert("RGB"))).all()
    assert (read_image(tmp_path / "few.gif") == np.asarray(original.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "palette with alpha", "RGB key", "L key"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "cut out.png"
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.putpixel((1, 0), 1)
        image.save(path, transparency=0)
    elif mode == "palette with alpha":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 0, 0, 0, 0, 255], "RGBA")
        image.putpixel((1, 0), 1)
        image.save(path)
    elif mode.endswith("key"):
        image = Image.new(mode.split()[0], (2, 1), "#010101")
        image.putpixel((1, 0), (0, 0, 0) if mode == "RGB key" else 0)
        image.save(path, transparency=(1, 1, 1) if mode == "RGB key" else 1)
    else:
        image = Image.new(mode, (2, 1))
        image.putpixel((1, 0), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
        image.save(path)
    assert read_image(path).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_one_pixel(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "one.tiff"
    Image.new(mode, (1, 1)).save(path)
    assert read_image(path).shape == (1, 1, 3)


def test_30_000_pixels_wide(tmp_path: Path) -> None:
    path = tmp_path / "panorama.jpg"
    Image.new("RGB", (30_000, 40), "teal").save(path)
    assert read_image(path).shape == (40, 30_000, 3)
    assert image_size(path) == (30_000, 40)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    red, blue = Image.new("RGB", (3, 2), "red"), Image.new("RGB", (3, 2), "blue")
    red.save(path, save_all=True, append_images=[blue])
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


def bomb(path: Path) -> None:
    side = int(Image.MAX_IMAGE_PIXELS**0.5 * 1.5)
    Image.new("1", (side, side)).save(path)


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-400])


def text_bomb(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 2 * PngImagePlugin.MAX_TEXT_CHUNK, zip=True)
    Image.new("RGB", (4, 4)).save(path, "PNG", pnginfo=info)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("empty.jpg", Path.touch, "the file is empty"),
        ("words.jpg", lambda path: path.write_text("not a photo"), "not an image"),
        ("cut.jpg", truncated, "truncated"),
        ("bomb.png", bomb, "decompression bomb"),
        ("text.png", text_bomb, "too large"),
        ("header.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not an image"),
        ("folder.jpg", Path.mkdir, "is a directory"),
        ("missing.jpg", lambda path: None, "no such file"),
    ],
)
def test_broken_files_say_what_is_wrong(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_no_cut_of_a_file_raises_anything_else(photo: Photo, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for suffix in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF"):
        photo("chelsea").resize((40, 30)).save(path, suffix, exif=exif(6))
        data = path.read_bytes()
        for length in range(0, len(data), 29):
            path.write_bytes(data[:length])
            for read in (read_image, image_size):
                with contextlib.suppress(UnreadableImage):
                    read(path)


def test_folder_is_listed_in_one_order(tmp_path: Path) -> None:
    names = ["b/2.PNG", "a.jpg", "B/1.jpeg", "b.jpg", "ä ö.webp", "b/a b.tif", "Z.bmp"]
    for name in [*names, "notes.txt", ".hidden.jpg", ".trash/x.jpg", "b/noimage"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    order = ["B/1.jpeg", "Z.bmp", "a.jpg", "b/2.PNG", "b/a b.tif", "b.jpg", "ä ö.webp"]
    assert [str(path.relative_to(tmp_path)) for path in found.images] == order
    assert not found.skipped


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.jpg").touch()
    (inside / "sub/own.jpg").touch()
    (inside / "file.jpg").symlink_to(outside / "secret.jpg")
    (inside / "folder").symlink_to(outside)
    (inside / "again.jpg").symlink_to("sub/own.jpg")
    (inside / "loop").symlink_to(".")
    (inside / "self.jpg").symlink_to("self.jpg")
    (inside / "dangling.jpg").symlink_to("nothing.jpg")
    (inside / "words").symlink_to(outside / "nothing.txt")
    found = find_images(inside)
    assert [path.name for path in found.images] == ["again.jpg", "own.jpg"]
    assert [item.path.name for item in found.skipped] == [
        "dangling.jpg",
        "file.jpg",
        "folder",
        "self.jpg",
    ]
    assert "leaves the folder" in found.skipped[1].reason
    found = find_images(inside, linked=True)
    assert [path.name for path in found.images] == ["again.jpg", "file.jpg", "own.jpg"]
    assert [item.path.name for item in found.skipped] == ["dangling.jpg", "folder", "self.jpg"]


def test_link_to_the_folder_itself_is_followed(photos: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(photos)
    found = find_images(link)
    assert len(found.images) == 5
    assert all(path.parent == link for path in found.images)


def test_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    found = find_images(tmp_path)
    assert not found.images
    assert found.skipped[0].reason == "the file name is not UTF-8"


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with a sub-folder that this process may not list, also where tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "a.jpg").touch()
    (folder / "locked").mkdir(mode=0o000)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        (folder / "locked").chmod(0o700)
        shutil.rmtree(folder)


def test_folder_that_cannot_be_listed_is_reported(locked: Path) -> None:
    found = find_images(locked)
    assert [path.name for path in found.images] == ["a.jpg"]
    assert [(item.path.name, item.reason) for item in found.skipped] == [
        ("locked", "the folder cannot be listed: Permission denied")
    ]


@pytest.mark.parametrize("name", ["missing", "a.jpg", "locked"])
def test_start_that_is_no_folder_is_refused(locked: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"is not there: give|is a file: give|cannot be listed"):
        find_images(locked / name)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("sub dir/a?b#c%20.jpg", "sub dir/a?b#c%20.jpg"),
        ("photos\\sub\\a.jpg", "photos/sub/a.jpg"),
        ("/data/local-files/?d=b.jpg", "b.jpg"),
        ("/data/local-files?d=sub/b.jpg", "sub/b.jpg"),
        ("http://localhost:8080/data/local-files/?d=sub/b%20c.jpg", "sub/b c.jpg"),
        ("https://ls.example.org/team/data/local-files/?d=b%2520.jpg", "b%20.jpg"),
        ("/data/local-files/?d=photos%5Cc.jpg", "photos/c.jpg"),
        ("/data/upload/1/ab12-a%20b.jpg", "ab12-a b.jpg"),
        ("http://localhost:8080/data/upload/1/ab12-a.jpg", "ab12-a.jpg"),
        ("/storage-data/uploaded/?filepath=upload/1/ab12-a.jpg", "ab12-a.jpg"),
        ("https://b.s3.example.org/p/a.jpg?X-Amz-Expires=9&X-Amz-Signature=abc/def", "a.jpg"),
        ("https://x.blob.core.windows.net/c/%C3%A4.jpg?sv=2020&sig=a%2Fb#top", "ä.jpg"),
        ("s3://bucket/p/a%20b.jpg", "a%20b.jpg"),
        ("gs://bucket/a.jpg", "a.jpg"),
        ("azure-blob://container/p/a.jpg", "a.jpg"),
        ("file:///C:/photos/my%20a.jpg", "my a.jpg"),
        # fileuri is s3://bucket/p/a.jpg
        ("/tasks/3/resolve/?fileuri=czM6Ly9idWNrZXQvcC9hLmpwZw==", "a.jpg"),
    ],
)
def test_the_name_in_an_address(address: str, name: str) -> None:
    assert file_name_of_address(address) == name


def test_more_parts_of_an_address() -> None:
    address = "http://images.cocodataset.org/val2017/000000000139.jpg"
    assert file_name_of_address(address, parts=2) == "val2017/000000000139.jpg"
    assert file_name_of_address(address, parts=9) == "val2017/000000000139.jpg"
    assert file_name_of_address("sub/sub/a.jpg", parts=2) == "sub/sub/a.jpg"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "sub/",
        "http://host/",
        "http://[1/a.jpg",
        "s3://bucket",
        "data:image/png;base64,AAAA",
        "/data/local-files/?d=",
        "/tasks/3/resolve/?fileuri=!",
    ],
)
def test_an_address_without_a_file_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="expected the address"):
        file_name_of_address(address)
