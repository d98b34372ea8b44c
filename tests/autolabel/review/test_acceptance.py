"""Labels that are accepted at a stated precision."""

import csv
import shutil
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from autolabel.review.acceptance import SHEET, STATE
from autolabel.run.manifest import RunFolder, read_manifest
from integrations.fiftyone.labels import is_accepted, is_reviewed
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json

LOW = ("--precision", "0.5", "--confidence", "0.5")


@pytest.fixture
def in_files(finished: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the finished run that has no labels in FiftyOne."""
    folder = shutil.copytree(finished.folder, tmp_path / "in files")
    RunFolder(folder, read_manifest(folder)).update(fiftyone=None)
    return folder


def read_sheet(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, right: str, delimiter: str = ",") -> None:
    rows = [{**row, "right": right} for row in read_sheet(path)]
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        out.writeheader()
        out.writerows(rows)


def test_a_file_is_filled_in_without_fiftyone(
    autolabel_cli: Autolabel, in_files: Path, tmp_path: Path
) -> None:
    early = autolabel_cli("export", in_files, "--only-accepted", "--out", tmp_path / "early")
    assert early.exit_code == 1
    assert "autolabel accept" in early.stderr

    first = autolabel_cli("accept", in_files, *LOW)
    assert first.exit_code == 0, first.output
    assert "sampled labels to review" in first.output
    assert "pooled" in first.output
    sampled = read_sheet(in_files / SHEET)
    assert sampled
    assert read_json(in_files / STATE)["accepted"] == []

    fill(in_files / SHEET, "Yes", delimiter=";")
    assert autolabel_cli("accept", in_files, *LOW).exit_code == 0
    state = read_json(in_files / STATE)
    assert state["accepted"]
    answered = read_sheet(in_files / SHEET)
    assert [row["right"] for row in answered if row["number"] == sampled[0]["number"]] == ["yes"]
    out = tmp_path / "accepted"
    assert autolabel_cli("export", in_files, "--only-accepted", "--out", out).exit_code == 0
    exported = read_json(out / "labels.coco.json")
    assert len(exported["annotations"]) == len(state["accepted"])
    assert {each["image_id"] for each in exported["annotations"]} == {
        each["id"] for each in exported["images"]
    }

    fill(in_files / SHEET, "no")
    assert autolabel_cli("accept", in_files, *LOW).exit_code == 0
    assert read_json(in_files / STATE)["accepted"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": "perhaps"}, "line 2: `right` must be yes, no or empty, got 'perhaps'"),
        ({"number": "99999"}, "line 2: number '99999'"),
        ({"word": "zebra"}, "leave all columns but `right`"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    autolabel_cli: Autolabel, in_files: Path, change: dict[str, str], message: str
) -> None:
    assert autolabel_cli("accept", in_files, *LOW).exit_code == 0
    rows = read_sheet(in_files / SHEET)
    with (in_files / SHEET).open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows([rows[0] | change, *rows[1:]])
    result = autolabel_cli("accept", in_files, *LOW)
    assert result.exit_code == 1
    assert message in result.stderr
    assert autolabel_cli("accept", in_files, "--precision", "95").exit_code == 1


def labels_of(dataset: Any, field: str) -> list[Any]:
    return [each for sample in dataset for each in sample[field].detections]


def test_acceptance_is_a_state_of_labels_in_fiftyone(
    autolabel_cli: Autolabel, coarse: Path, tmp_path: Path
) -> None:
    target = read_json(coarse / "run.json")["fiftyone"]
    field = target["label_field"]
    first = autolabel_cli("accept", coarse, *LOW)
    assert first.exit_code == 0, first.output
    dataset = fo.load_dataset(target["dataset"])
    dataset.reload()
    view = dataset.load_saved_view(f"to review {field}")
    sampled = [each for each in labels_of(dataset, field) if each["acceptance"] == "to review"]
    assert len(sampled) == len(read_json(coarse / STATE)["sampled"])
    assert len(view) > 0

    renamed = deleted = 0
    for sample in dataset:
        labels = sample[field].detections
        chosen = [each for each in labels if each["acceptance"] == "to review"]
        for each in chosen:
            if not renamed:
                each.label, renamed = "bicycle", 1
            elif not deleted:
                labels.remove(each)
                deleted = 1
            else:
                each["reviewed"] = True
        sample.save()
    autolabel_cli("accept", coarse, "--precision", "0.1", "--confidence", "0.5")
    state = read_json(coarse / STATE)
    assert sum(each["wrong"] for each in state["groups"]) == renamed + deleted
    dataset.reload()
    marked = [each for each in labels_of(dataset, field) if each["acceptance"] == "accepted"]
    assert len(marked) == len(state["accepted"]) > 0
    assert "bicycle" not in {each.label for each in marked}

    out = tmp_path / "accepted"
    assert autolabel_cli("export", coarse, "--only-accepted", "--out", out).exit_code == 0
    exported = read_json(out / "labels.coco.json")["annotations"]
    kept = [each for each in labels_of(dataset, field) if is_accepted(each) or is_reviewed(each)]
    assert len(exported) == len(kept) > len(marked)
    both = ("--only-accepted", "--only-reviewed")
    assert autolabel_cli("export", coarse, *both, "--out", tmp_path / "b").exit_code == 1
