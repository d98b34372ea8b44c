"""Whatever lies in the folder: it is labelled as a person sees it, or listed with a reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autolabel.demo import write_photos
from tests.autolabel.helpers import Autolabel

TURNED_RIGHT = 6  # EXIF: the camera was held on its side


def as_mode(mode: str, suffix: str) -> Callable[[Image.Image, Path], None]:
    return lambda photo, path: photo.convert(mode).save(path.with_suffix(suffix))


def sixteen_bit(photo: Image.Image, path: Path) -> None:
    grey = np.asarray(photo.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(path.with_suffix(".png"))


def turned(photo: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED_RIGHT
    photo.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


GOOD: dict[str, Callable[[Image.Image, Path], None]] = {
    "grey.jpg": as_mode("L", ".jpg"),
    "cmyk.jpg": as_mode("CMYK", ".jpg"),
    "palette.png": as_mode("P", ".png"),
    "sixteen.png": sixteen_bit,
    "turned.jpg": turned,
    "with blank and Größe 猫.jpg": lambda photo, path: photo.save(path),
    "pixel.png": lambda photo, path: photo.resize((1, 1)).save(path),
    "wide.png": lambda photo, path: photo.resize((30_000, 40)).save(path),
}
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut.jpg": lambda photo: photo[: len(photo) // 2],
    "text.jpg": lambda photo: b"This is no photo.",
    "zero.jpg": lambda photo: b"",
}
REASONS = {
    "cut.jpg": "truncated",
    "text.jpg": "not an image that can be read",
    "zero.jpg": "the file is empty",
    "dangling.jpg": "a link to nothing",
    "locked/": "the folder cannot be listed: Permission denied",
}


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of everything; the cat in GOOD is always the same."""
    cat = write_photos(tmp_path, ["cat"]) / "cat.jpg"
    folder = tmp_path / "mixed"
    folder.mkdir()
    with Image.open(cat) as photo:
        for name, write in GOOD.items():
            write(photo, folder / name)
    for name, break_it in BROKEN.items():
        (folder / name).write_bytes(break_it(cat.read_bytes()))
    (folder / "dangling.jpg").symlink_to(folder / "nothing.jpg")
    locked = folder / "locked"
    locked.mkdir()
    # The tests may run as root, whom no permission keeps out: the one call that lists says no.
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path) == locked:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


def test_every_kind_is_labelled_or_listed(
    autolabel_cli: Autolabel, mixed: Path, words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = autolabel_cli(
        *("run", mixed, "--vocab", words, "--out", out, "--no-fiftyone"),
        *("--conf-threshold", "0.05", "--presence-threshold", "0", "--batch-size", "3"),
    )
    assert result.exit_code == 3, result.output
    assert f"{len(REASONS)}, listed in" in result.output

    lines = (out / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    skipped = {record["file_name"]: record["reason"] for record in map(json.loads, lines)}
    assert skipped.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in skipped[name]

    content = json.loads((out / "labels.coco.json").read_text(encoding="utf-8"))
    sizes = {each["file_name"]: (each["width"], each["height"]) for each in content["images"]}
    cat = (451, 300)
    assert sizes == dict.fromkeys(GOOD, cat) | {"pixel.png": (1, 1), "wide.png": (30_000, 40)}
    names = {each["id"]: each["file_name"] for each in content["images"]}
    labelled = {names[each["image_id"]] for each in content["annotations"]}
    assert labelled >= GOOD.keys() - {"pixel.png", "wide.png"}
    assert (out / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("names", "options", "regions"),
    [
        ("cat: kitten\nanimal", [], 100),
        ("cat\nstirrup", [], 200),
        ("cat\nstirrup", ["--max-boxes", "7"], 7),
    ],
)
def test_more_boxes_are_proposed_where_a_word_is_none_of_the_detectors_classes(
    autolabel_cli: Autolabel, tmp_path: Path, names: str, options: list[str], regions: int
) -> None:
    photos, words, out = write_photos(tmp_path, ["cat"]), tmp_path / "words.txt", tmp_path / "run"
    words.write_text(names)
    result = autolabel_cli(
        *("run", photos / "cat.jpg", "--vocab", words, "--out", out, "--no-fiftyone"),
        *("--no-masks", "--conf-threshold", "0.005", *options),
    )
    assert result.exit_code == 0, result.output
    (shard,) = json.loads((out / "run.json").read_text())["shards"]
    assert shard["regions"] == regions


def test_where_all_are_broken_the_run_still_ends_well(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "text.jpg").write_text("no photo")
    out = tmp_path / "run"
    result = autolabel_cli("run", folder, "--vocab", words, "--out", out, "--no-fiftyone")
    assert result.exit_code == 3
    content = json.loads((out / "labels.coco.json").read_text())
    assert content["images"] == content["annotations"] == []
    assert (out / "contact_sheet.png").exists()


def test_an_image_that_a_coco_file_names_and_is_not_there_is_listed(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path
) -> None:
    images = write_photos(tmp_path / "images", ["cat"])
    records = [{"id": 70, "file_name": "cat.jpg"}, {"id": 7, "file_name": "gone.jpg"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": records}))
    out = tmp_path / "run"
    result = autolabel_cli(
        *("run", path, "--images", images, "--vocab", words, "--out", out, "--no-fiftyone")
    )
    assert result.exit_code == 3
    content = json.loads((out / "labels.coco.json").read_text())
    assert [each["id"] for each in content["images"]] == [70]
    assert {each["image_id"] for each in content["annotations"]} <= {70}
    assert json.loads((out / "skipped.jsonl").read_text())["image_id"] == 7


def test_images_of_another_size_than_a_coco_file_states_are_skipped(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path
) -> None:
    """As the file's labels would be of another version; without a size nothing is compared."""
    images = tmp_path / "images"
    images.mkdir()
    photo = Image.new("RGB", (40, 30))
    for name in ("same.png", "none.png", "other.png"):
        photo.save(images / name)
    turned(photo, images / "upright.jpg")  # stored as 30 x 40
    turned(photo, images / "stored.jpg")
    records = [
        {"id": 1, "file_name": "same.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "none.png"},
        {"id": 3, "file_name": "other.png", "width": 80, "height": 60},
        {"id": 4, "file_name": "upright.jpg", "width": 40, "height": 30},
        {"id": 5, "file_name": "stored.jpg", "width": 30, "height": 40},
    ]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": records}))
    out = tmp_path / "run"
    result = autolabel_cli(
        *("run", path, "--images", images, "--vocab", words, "--out", out, "--no-fiftyone")
    )
    assert result.exit_code == 3
    content = json.loads((out / "labels.coco.json").read_text())
    assert [each["id"] for each in content["images"]] == [1, 2, 4]
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [each["image_id"] for each in skipped] == [3, 5]
    assert "40 x 30 pixels, and its labels say 80 x 60" in skipped[0]["reason"]
    assert "the sides are swapped" in skipped[1]["reason"]


def test_an_image_that_the_model_fails_on_is_skipped_alone(
    autolabel_cli: Autolabel, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory does not suffice: the batch fails, then only the image at fault."""
    from regionspot.localizers.sam import SamLocalizer

    images = write_photos(tmp_path / "images", ["cat", "coffee", "rocket"])
    encode = SamLocalizer.encode

    def fail(self: SamLocalizer, image: Any) -> Any:
        if image.shape[:2] == (400, 600):
            raise RuntimeError("not enough memory: you tried to allocate 99 GB")
        return encode(self, image)

    monkeypatch.setattr(SamLocalizer, "encode", fail)
    out = tmp_path / "run"
    result = autolabel_cli(
        *("run", images, "--vocab", words, "--out", out, "--no-fiftyone", "--batch-size", 3)
    )
    assert result.exit_code == 3
    record = json.loads((out / "skipped.jsonl").read_text())
    assert record["file_name"] == "coffee.jpg"
    assert record["reason"].startswith("the model failed: not enough memory")
    content = json.loads((out / "labels.coco.json").read_text())
    assert [each["file_name"] for each in content["images"]] == ["cat.jpg", "rocket.jpg"]
