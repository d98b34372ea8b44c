"""Labels in every format, from a run and from other files, and a detector that trains on them."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from autolabel.convert import convert
from integrations.annotations import LabelledImage
from integrations.formats.coco import read_coco
from integrations.formats.registry import FORMATS, format_named, write_folder
from integrations.images import read_image
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel, FinishedRun
from tests.integrations.formats.factories import small_set

STEPS = 4


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_in_every_format(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path, name: str
) -> None:
    out, format = tmp_path / "out", format_named(name)
    command = ["export", finished.folder, "--format", name, "--out", out, "--copy-images"]
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    labels = out / format.entries[0] if format.is_file else out
    data = format.read(labels, out / format.images)
    count = sum(len(image.annotations) for image in data.images)
    assert count == finished.manifest.counts["labels"]
    for image in data.images:
        assert read_image(out / format.images / image.file_name).shape[:2] == (
            image.height,
            image.width,
        )
    assert "is there already" in autolabel_cli(*command).stderr


def test_only_what_is_wanted(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "sure"
    command = ["export", finished.folder, "--out", out, "--min-confidence", "0.3", "--link"]
    assert autolabel_cli(*command).exit_code == 0
    data = read_coco(out / "labels.coco.json")
    scores = [each.score for image in data.images for each in image.annotations]
    assert 0 < len(scores) < finished.manifest.counts["labels"]
    assert min(score for score in scores if score is not None) >= 0.3
    assert all((out / "images" / image.file_name).is_symlink() for image in data.images)

    command = ["export", finished.folder, "--out", tmp_path / "none", "--only-reviewed"]
    assert autolabel_cli(*command).exit_code == 0
    assert not read_coco(tmp_path / "none/labels.coco.json").images


def test_a_dataset_of_fiftyones(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    name = f"by hand {os.urandom(4).hex()}"
    dataset = fo.Dataset(name)
    detection = fo.Detection(label="cat", bounding_box=[0.25, 0.5, 0.5, 0.25])
    sample = fo.Sample(str(tmp_path / "a.png"), mine=fo.Detections(detections=[detection]))
    dataset.add_sample(sample)
    out = tmp_path / "out"
    command = ["export", f"fiftyone:{name}", "--label-field", "mine", "--out", out]
    result = autolabel_cli(*command, "--only-reviewed")
    assert result.exit_code == 0, result.output
    (image,) = read_coco(out / "labels.coco.json").images
    assert (image.file_name, image.width, image.height) == ("a.png", 40, 20)
    assert image.annotations[0].box == (10, 10, 30, 15)
    dataset.delete()


def test_from_format_to_format_and_back(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    data = small_set()
    first = tmp_path / "first.json"
    FORMATS["coco"].write(first, data.categories, data.images, None)
    images = tmp_path / "photos"
    for image in data.images:
        (images / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (image.width, image.height)).save(images / image.file_name)
    before, at = "coco", first
    for name in ("label-studio", "cvat", "lvis", "fiftyone", "yolo-scores", "coco"):
        out = tmp_path / name
        command = ["convert", at, out, "--from", before, "--to", name, "--copy-images"]
        folder = ["--images", images] if before == "coco" else []
        result = autolabel_cli(*command, *folder)
        assert result.exit_code == 0, result.output
        assert f"3 labels of 2 images: {out}" in result.output
        before, at = name, out
    found = {image.file_name: image for image in read_coco(at / "labels.coco.json").images}
    for image in data.images:
        for one, other in zip(found[image.file_name].annotations, image.annotations, strict=True):
            assert one.box == pytest.approx(other.box, abs=0.01)
            assert one.score == other.score


@pytest.mark.parametrize("name", FORMATS)
def test_links_to_images_are_read_back(
    autolabel_cli: Autolabel,
    finished: FinishedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    linked, back = Path("linked"), Path("back")
    result = autolabel_cli("export", finished.folder, "--format", name, "--out", linked, "--link")
    assert result.exit_code == 0, result.output
    assert any(each.is_symlink() for each in (linked / format_named(name).images).iterdir())
    command = ["convert", linked, back, "--from", name, "--to", "coco", "--copy-images"]
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    data = read_coco(back / "labels.coco.json", back / "images")
    count = sum(len(image.annotations) for image in data.images)
    assert count == finished.manifest.counts["labels"]
    for image in data.images:
        copy = back / "images" / image.file_name
        assert not copy.is_symlink()
        assert read_image(copy).shape[:2] == (image.height, image.width)


@pytest.mark.parametrize("before", FORMATS)
def test_from_every_format_to_every_other(tmp_path: Path, before: str) -> None:
    data = small_set()
    source = tmp_path / "source"
    write_folder(source, format_named(before), data.categories, data.images, None, blank)
    for after in FORMATS:
        out, format = tmp_path / after, format_named(after)
        assert (
            convert(source, out, from_format=before, to_format=after, images="copy").annotations
            == 3
        )
        labels = out / format.entries[0] if format.is_file else out
        found = format.read(labels, out / format.images)
        words = {category.id: category.name for category in found.categories}
        by_name = {image.file_name: image for image in found.images}
        assert by_name.keys() == {image.file_name for image in data.images}
        labels_found = by_name["a b/ñandú.jpg"].annotations
        assert [words[each.category_id] for each in labels_found] == ["cat", "Äpfel", "cat"]
        whole = "voc" in (before, after)
        scores = not {"yolo", "yolo-seg"} & {before, after}
        for one, other in zip(labels_found, data.images[0].annotations, strict=True):
            assert one.box == pytest.approx(other.box, abs=1 if whole else 0.01)
            assert one.score == (other.score if scores else None)


def blank(image: LabelledImage, path: Path) -> None:
    Image.new("1", (image.width, image.height)).save(path)


def test_convert_says_what_is_missing(tmp_path: Path) -> None:
    data = small_set()
    path = tmp_path / "in.json"
    FORMATS["coco"].write(path, data.categories, data.images, None)
    to_yolo: dict[str, Any] = {"from_format": "coco", "to_format": "yolo", "images": "copy"}
    with pytest.raises(InputError, match="say where with --images DIR"):
        convert(path, tmp_path / "out", **to_yolo)
    with pytest.raises(InputError, match="is not there; --images names the folder"):
        convert(path, tmp_path / "out", **to_yolo, folder=tmp_path)
    assert not (tmp_path / "out").exists()
    path.rename(tmp_path / "out.json")
    with pytest.raises(InputError, match="is there already"):
        convert(tmp_path / "out.json", tmp_path / "out.json", from_format="coco", to_format="lvis")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [(50, 80, "labels of another version"), (30, 40, "sides are swapped.*EXIF orientation")],
)
def test_labels_of_another_size_than_the_image_are_refused(
    tmp_path: Path, width: int, height: int, message: str
) -> None:
    image = LabelledImage(1, "a.jpg", width, height)
    FORMATS["coco"].write(tmp_path / "in.json", [], [image], None)
    blank(dataclasses.replace(image, width=40, height=30), tmp_path / "a.jpg")
    with pytest.raises(InputError, match=f"40 x 30 pixels.*{width} x {height}: .*{message}"):
        convert(
            tmp_path / "in.json",
            tmp_path / "out.json",
            from_format="coco",
            to_format="coco",
            folder=tmp_path,
        )


@pytest.mark.parametrize("name", ["yolo", "voc", "cvat", "label-studio"])
def test_two_images_of_one_name_are_kept_apart_or_refused(tmp_path: Path, name: str) -> None:
    images = [LabelledImage(number, "a.jpg", 4, 4) for number in (1, 2)]
    FORMATS["coco"].write(tmp_path / "in.json", [], images, None)
    options: dict[str, Any] = {"from_format": "coco"}
    with pytest.raises(InputError, match=r"a\.jpg.*two images have this name"):
        convert(tmp_path / "in.json", tmp_path / "out", to_format=name, **options)
    done = convert(tmp_path / "in.json", tmp_path / "out.json", to_format="coco", **options)
    assert done.images == 2


def test_a_detector_trains_on_an_export_alone(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "export"
    command = ["export", finished.folder, "--out", out, "--copy-images"]
    assert autolabel_cli(*command).exit_code == 0
    data = read_coco(out / "labels.coco.json")
    labelled = [image for image in data.images if image.annotations]
    pixels = [read_image(out / "images" / image.file_name) for image in labelled]
    inputs = [torch.from_numpy(each).permute(2, 0, 1) / 255 for each in pixels]
    targets = [
        {
            "boxes": torch.tensor([each.box for each in image.annotations]),
            "labels": torch.tensor([each.category_id for each in image.annotations]),
        }
        for image in labelled
    ]
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(data.categories) + 1
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(STEPS):
        loss = sum(model(inputs, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
