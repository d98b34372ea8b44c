"""A second run over the same images, in a field of its own beside the first run's."""

import json
import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from autolabel import label
from autolabel.demo import write_photos
from autolabel.run.outputs import Outputs
from tests.autolabel.helpers import Autolabel, read_json

Command = list[object]


@pytest.fixture(scope="module")
def first(autolabel_cli: Autolabel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in FiftyOne, whose labels a person reviewed."""
    folder = tmp_path_factory.mktemp("into")
    photos = write_photos(folder / "photos", ["cat", "motorcycle"])
    (folder / "words.txt").write_text("cat\nmotorcycle\nperson\n")
    out = folder / f"run-{os.urandom(4).hex()}"
    result = autolabel_cli(*command(photos, out))
    assert result.exit_code == 0, result.output
    samples = samples_of(out)
    samples["cat"]["predictions"].detections[0].label = "tabby"
    samples["cat"].save()
    samples["motorcycle"]["predictions"].detections.pop()
    samples["motorcycle"]["predictions"].detections.append(
        fo.Detection(label="wall", bounding_box=[0.0, 0.0, 0.1, 0.1])
    )
    samples["motorcycle"].save()
    return out


def command(photos: Path, out: Path) -> Command:
    words = photos.parent / "words.txt"
    return ["run", photos, "--vocab", words, "--out", out, "--conf-threshold", "0.1", "--json"]


def samples_of(run: Path) -> dict[str, Any]:
    """The samples of a run's dataset, by their files' names without suffix."""
    dataset = fo.load_dataset(read_json(run / "run.json")["fiftyone"]["dataset"])
    dataset.reload()
    return {Path(sample.filepath).stem: sample for sample in dataset}


def words_in(sample: Any, field: str) -> list[str]:
    return [each.label for each in sample[field].detections]


def test_a_second_run_gets_a_field_of_the_first_ones_dataset(
    autolabel_cli: Autolabel, first: Path
) -> None:
    out = first.with_name(f"{first.name}-other")
    other = [*command(first.parent / "photos", out), "--into", first, "--max-boxes", "50"]
    before = {name: each["predictions"].to_dict() for name, each in samples_of(first).items()}
    result = autolabel_cli(*other)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["fiftyone"]["dataset"] == read_json(first / "run.json")["fiftyone"]["dataset"]
    assert told["fiftyone"]["label_field"] == "predictions_other"
    assert told["carried"] is None
    for name, sample in samples_of(first).items():
        assert sample["predictions"].to_dict() == before[name]
        written = sample["predictions_other"].detections
        assert written
        assert {each["run"] for each in written} == {told["fiftyone"]["run_key"]}
        assert {each.label for each in written} <= {"cat", "motorcycle", "person"}
    assert "complete already" in autolabel_cli(*other).stderr
    result = autolabel_cli(*other, "--carry-reviewed")
    assert result.exit_code == 1
    assert "holds a run with other --carry-reviewed" in result.stderr


def test_what_a_person_reviewed_is_carried_over(autolabel_cli: Autolabel, first: Path) -> None:
    out = first.with_name("carried")
    other = [*command(first.parent / "photos", out), "--into", first, "--carry-reviewed"]
    result = autolabel_cli(*other)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["carried"] == {
        "by_box_id": 0,
        "by_iou": 1,
        "added": 1,
        "left_out": 0,
        "deleted": 1,
        "images": 2,
    }
    assert "2 reviewed labels carried over in 2 images" in " ".join(result.stderr.split())
    assert told["fiftyone"]["label_field"] == "predictions_carried"
    samples = samples_of(first)
    for sample in samples.values():  # of equal options: the first run's labels after the review
        now = words_in(sample, "predictions_carried")
        assert sorted(now) == sorted(words_in(sample, "predictions"))
    assert "tabby" in words_in(samples["cat"], "predictions_carried")
    assert "wall" in words_in(samples["motorcycle"], "predictions_carried")
    exported = autolabel_cli("export", out, "--out", first.with_name("exported"), "--only-reviewed")
    assert exported.exit_code == 0, exported.output
    kept = read_json(first.with_name("exported") / "labels.coco.json")
    assert len(kept["annotations"]) == 2


def test_carried_labels_are_no_review_of_a_run_that_was_stopped(
    autolabel_cli: Autolabel, first: Path
) -> None:
    def disk_is_full(*_: object) -> None:
        raise OSError("the disk is full")

    out = first.with_name("stopped")
    other = [*command(first.parent / "photos", out), "--into", first, "--carry-reviewed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outputs, "_register", disk_is_full)
        assert autolabel_cli(*other).exit_code == 4
    assert "tabby" in words_in(samples_of(first)["cat"], "predictions_stopped")
    result = autolabel_cli(*other)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["carried"]["images"] == 2
    assert words_in(samples_of(first)["cat"], "predictions_stopped").count("tabby") == 1


def test_other_words_carry_reviewed_labels_over(autolabel_cli: Autolabel, first: Path) -> None:
    words = first.with_name("vehicles.txt")
    words.write_text("vehicle: motorcycle\nanimal: cat\n")
    relabelled = ["relabel", first, "--vocab", words, "--carry-reviewed", "--json"]
    result = autolabel_cli(*relabelled)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["carried"]["images"] == 2
    samples = samples_of(first)
    assert "tabby" in words_in(samples["cat"], "predictions_vehicles")
    assert "vehicle" in words_in(samples["motorcycle"], "predictions_vehicles")
    assert "wall" in words_in(samples["motorcycle"], "predictions_vehicles")


def test_images_that_the_dataset_lacks_are_in_the_files_alone(
    autolabel_cli: Autolabel, first: Path
) -> None:
    more = write_photos(first.parent / "more", ["cat", "coffee"])
    listed = first.with_name("list.txt")
    listed.write_text(f"{first.parent / 'photos' / 'cat.jpg'}\n{more / 'coffee.jpg'}\n")
    out = first.with_name("listed")
    where = ["--out", out, "--into", first, "--conf-threshold", "0.1", "--json"]
    arguments = ["run", listed, "--vocab", first.parent / "words.txt", *where]
    result = autolabel_cli(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 images are not in FiftyOne's dataset" in " ".join(result.stderr.split())
    assert set(samples_of(first)) == {"cat", "motorcycle"}
    assert json.loads(result.stdout)["labelled"] == 2
    arguments[1] = more
    arguments[5] = first.with_name("none of them")
    result = autolabel_cli(*arguments)
    assert result.exit_code == 1
    assert "has none of the 2 images; give the images that it labelled" in result.stderr
    assert not Path(str(arguments[5])).exists()


def test_images_reviewed_as_a_whole_are_said(autolabel_cli: Autolabel, first: Path) -> None:
    cat = samples_of(first)["cat"]
    cat.tags.append("reviewed")
    cat.save()
    photos = first.parent / "photos"
    options: dict[str, Any] = {"into": first, "conf_threshold": 0.1, "limit": 1}
    tagged = command(photos, first.with_name("tagged"))
    result = autolabel_cli(*tagged, "--into", first, "--limit", 1)
    cat.tags.remove("reviewed")
    cat.save()
    assert "1 images have the tag 'reviewed'" in " ".join(result.stderr.split())
    run = label(photos, ["cat"], out=first.with_name("api"), carry_reviewed=True, **options)
    assert run.manifest.into == str(first.resolve())
    assert run.manifest.carried["by_iou"] == 1


def test_what_does_not_go_together_is_one_line(autolabel_cli: Autolabel, first: Path) -> None:
    photos = first.parent / "photos"
    files = first.with_name("files alone")
    assert autolabel_cli(*command(photos, files), "--no-fiftyone").exit_code == 0
    for more, expected in (
        (["--carry-reviewed"], "--carry-reviewed needs the run that was reviewed: add --into RUN"),
        (["--into", first, "--no-fiftyone"], "does not go with --no-fiftyone"),
        (["--into", first, "--database", photos / "db"], "does not go with --database"),
        (["--into", files], "has no labels in FiftyOne"),
        (["--into", photos], "is no run folder"),
        (["--into", first, "--label-field", "predictions"], "has a field 'predictions' already"),
    ):
        result = autolabel_cli(*command(photos, first.with_name("new")), *more)
        assert result.exit_code == 1
        assert expected in " ".join(result.stderr.split())
        assert result.stderr.count("error:") == 1
    result = autolabel_cli(*command(photos, first), "--into", first)
    assert "--into needs a run folder of its own" in result.stderr
    assert not first.with_name("new").exists()
