"""A run that grows leaves the review in FiftyOne as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from PIL import Image

import autolabel.run.pipeline
from autolabel.run.manifest import read_manifest
from tests.autolabel.helpers import Autolabel, FinishedRun


def labels_of(sample: Any) -> Any:
    return json.loads(sample.to_json())["predictions"]


def by_name(dataset: Any) -> dict[str, Any]:
    return {Path(sample.filepath).name: sample for sample in dataset}


def mirror(path: Path) -> None:
    with Image.open(path) as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)


def test_reviewed_images_stay_and_all_others_follow_the_folder(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / f"grown {tmp_path.name}"
    photos.mkdir()
    names = ("cat.jpg", "coffee.jpg", "motorcycle.jpg", "rocket.jpg")
    for name in names:
        shutil.copy(finished.photos / name, photos / name)
    command = ("run", photos, *finished.command[2:], "--out", out)
    assert autolabel_cli(*command).exit_code == 0
    target = read_manifest(out).fiftyone
    assert target is not None
    dataset = fo.load_dataset(target.dataset)

    samples = by_name(dataset)
    assert all(len(each.predictions.detections) for each in samples.values())
    samples["cat.jpg"].predictions.detections[0].label = "a person's word"
    samples["cat.jpg"].predictions.detections.append(
        fo.Detection(label="drawn", bounding_box=[0, 0, 0.5, 0.5])
    )
    samples["motorcycle.jpg"].predictions.detections.pop()
    for name in ("cat.jpg", "motorcycle.jpg"):
        samples[name].save()
    before = {name: labels_of(each) for name, each in samples.items()}

    for name in ("cat.jpg", "motorcycle.jpg", "rocket.jpg"):
        mirror(photos / name)
    shutil.copy(finished.photos / "astronaut.jpg", photos / "astronaut.jpg")
    (photos / "coffee.jpg").unlink()
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "1 new, 3 changed, 0 unchanged; 1 deleted, whose labels are kept" in said
    assert "1 added, 1 labelled again, 2 reviewed and left as they are" in said

    dataset.reload()
    now = by_name(dataset)
    assert set(now) == {*names, "astronaut.jpg"}
    for name in ("cat.jpg", "motorcycle.jpg", "coffee.jpg"):
        assert labels_of(now[name]) == before[name]
    assert labels_of(now["rocket.jpg"]) != before["rocket.jpg"]
    content = json.loads((out / "labels.coco.json").read_text())
    ids = {each["file_name"]: each["id"] for each in content["images"]}
    for name in ("rocket.jpg", "astronaut.jpg"):
        scores = [e["score"] for e in content["annotations"] if e["image_id"] == ids[name]]
        assert [each.confidence for each in now[name].predictions.detections] == scores
        assert now[name].predictions.detections[0].run == target.run_key

    after = {name: labels_of(each) for name, each in now.items()}
    assert "complete already" in autolabel_cli(*command).output
    assert {name: labels_of(each) for name, each in by_name(dataset).items()} == after


def test_a_dataset_of_theirs_grows_with_its_samples(
    autolabel_cli: Autolabel,
    finished: FinishedRun,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    dataset = fo.Dataset(f"theirs {tmp_path.name}", persistent=True)
    request.addfinalizer(dataset.delete)
    paths = [str(finished.photos / f"{name}.jpg") for name in ("rocket", "cat", "coffee")]
    dataset.add_samples([fo.Sample(path) for path in paths[:2]], progress=False)
    options = (*finished.command[2:], "--out", tmp_path / "run")
    command = ("run", f"fiftyone:{dataset.name}", *options)
    assert autolabel_cli(*command).exit_code == 0
    dataset.reload()
    rocket = dataset.first()
    rocket.tags.append("reviewed")
    rocket.save()
    before = labels_of(rocket)
    dataset.add_sample(fo.Sample(paths[2]))
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "1 new, 0 changed, 2 unchanged" in said
    assert "1 added, 0 labelled again, 0 reviewed" in said
    dataset.reload()
    assert labels_of(dataset.first()) == before
    assert len(dataset) == 3
    assert dataset.last().predictions.detections


def test_a_run_that_was_never_complete_is_written_whole(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    """It overwrites another one, whose field is there, and images are added meanwhile."""
    photos, out = tmp_path / "photos", tmp_path / f"stopped {tmp_path.name}"
    photos.mkdir()
    for name in ("cat.jpg", "coffee.jpg", "motorcycle.jpg"):
        shutil.copy(finished.photos / name, photos / name)
    command = ("run", photos, *finished.command[2:], "--out", out)
    assert autolabel_cli(*command).exit_code == 0
    target = read_manifest(out).fiftyone
    assert target is not None

    def disk_is_full(*_: object) -> None:
        raise OSError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autolabel.run.pipeline, "Outputs", disk_is_full)
        assert autolabel_cli(*command, "--overwrite").exit_code == 4
    shutil.copy(finished.photos / "rocket.jpg", photos / "rocket.jpg")
    (photos / "coffee.jpg").unlink()
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "1 new, 0 changed, 2 unchanged; 1 deleted, which are left out" in said
    samples = by_name(fo.load_dataset(target.dataset))
    assert set(samples) == {"cat.jpg", "motorcycle.jpg", "rocket.jpg"}
    assert all(each.predictions.detections for each in samples.values())
