"""`autolabel train --from-review`: a person corrects labels in FiftyOne, and the head learns it."""

import json
import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
import torch
from safetensors.torch import load_file

from autolabel.demo import write_photos
from tests.autolabel.helpers import Autolabel

PHOTOS = ("cat", "coffee", "motorcycle", "photographer")
WORDS = "person\ncat\ncup\nspoon\nmotorcycle\nrocket\ntie\ntripod\n"
# What the model calls these, a person calls otherwise; the last word is not in the list.
OTHERWISE = {"cat": "kitten", "motorcycle": "moped"}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def labels_of(run: Path) -> tuple[Any, str]:
    """FiftyOne's dataset of a run and the field of its labels."""
    target = read_json(run / "run.json")["fiftyone"]
    return fo.load_dataset(target["dataset"]), target["label_field"]


def words_by_box(run: Path) -> dict[tuple[str, tuple[float, ...]], str]:
    """The word of each label of a run, by image and box."""
    content = read_json(run / "labels.coco.json")
    names = {each["id"]: each["name"] for each in content["categories"]}
    return {
        (str(each["image_id"]), tuple(each["bbox"])): names[each["category_id"]]
        for each in content["annotations"]
    }


@pytest.fixture
def reviewed(autolabel_cli: Autolabel, tmp_path: Path) -> Path:
    """A run over real photos, labelled and not yet corrected."""
    (tmp_path / "words.txt").write_text(WORDS)
    photos = write_photos(tmp_path / "photos", PHOTOS)
    run = tmp_path / f"run {os.urandom(4).hex()}"
    result = autolabel_cli("run", photos, "--vocab", tmp_path / "words.txt", "--out", run)
    assert result.exit_code == 0, result.output
    return run


def correct(run: Path) -> int:
    """Give labels other words as a person would in the App; how many that are."""
    dataset, field = labels_of(run)
    changed = 0
    for sample in dataset:
        for label in sample[field].detections:
            if label.label in OTHERWISE:
                label.label = OTHERWISE[label.label]
                changed += 1
        sample.save()
    return changed


def test_corrected_words_are_learnt_and_the_others_stay(
    autolabel_cli: Autolabel, reviewed: Path, tmp_path: Path
) -> None:
    before = words_by_box(reviewed)
    changed = correct(reviewed)
    assert changed >= 2
    cache = ("--cache", tmp_path / "features", "--workers", 1)
    result = autolabel_cli("train", "--from-review", reviewed, *cache)
    assert result.exit_code == 0, result.output
    assert "all corrected" in result.output
    head = reviewed / "reviewed.safetensors"

    more = tmp_path / "more.txt"
    more.write_text(WORDS + "".join(f"{word}\n" for word in OTHERWISE.values()))
    again = tmp_path / f"again {os.urandom(4).hex()}"
    command = ["run", tmp_path / "photos", "--vocab", more, "--out", again, "--no-fiftyone"]
    result = autolabel_cli(*command, "--checkpoint", head)
    assert result.exit_code == 0, result.output
    after = words_by_box(again)
    both = before.keys() & after.keys()
    learnt = [after[box] == OTHERWISE[before[box]] for box in both if before[box] in OTHERWISE]
    kept = [after[box] == before[box] for box in both if before[box] not in OTHERWISE]
    assert len(learnt) >= 2
    assert all(learnt)
    assert len(kept) >= 3
    assert all(kept)

    provenance = read_json(head.with_suffix(".json"))
    assert provenance["head"] == read_json(again / "run.json")["model"]["head"]
    assert provenance["began_from"]["sha256"] == read_json(reviewed / "run.json")["model"]["head"]
    assert sum(provenance["corrections"].values()) == changed
    assert provenance["corrections"].keys() == set(OTHERWISE.values())
    dataset, field = labels_of(reviewed)
    assert (provenance["dataset"], provenance["label_field"]) == (dataset.name, field)

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*.*")}
    named = ("train", "--from-review", dataset.name, "--out", tmp_path / "second.safetensors")
    result = autolabel_cli(*named, *cache)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    first, second = load_file(head), load_file(tmp_path / "second.safetensors")
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_train_says_what_it_cannot_do(
    autolabel_cli: Autolabel, reviewed: Path, tmp_path: Path
) -> None:
    dataset, _ = labels_of(reviewed)
    for arguments, said in (
        ([reviewed], "holds no correction"),
        (["no such dataset"], "FiftyOne has no dataset"),
        ([dataset.name, "--label-field", "theirs"], "has no field 'theirs'"),
        ([dataset.name, "--run", "theirs"], "has no run 'theirs'"),
        ([reviewed, "--out", tmp_path / "head.pth"], "must end with .safetensors"),
        ([reviewed, "--out", "regionspot/checkpoints/mini.safetensors"], "shipped heads"),
        ([reviewed, "--checkpoint", reviewed / "run.json"], "is not a checkpoint of ours"),
    ):
        result = autolabel_cli("train", "--from-review", *arguments)
        assert result.exit_code == 1, arguments
        assert said in result.stderr
        assert result.stderr.count("error:") == 1
    assert not (reviewed / "reviewed.safetensors").exists()
    words = tmp_path / "words.txt"
    command = ["run", tmp_path / "photos", "--vocab", words, "--out", tmp_path / "x"]
    result = autolabel_cli(*command, "--checkpoint", tmp_path / "gone.safetensors")
    assert result.exit_code == 1
    assert "gone.safetensors is not a checkpoint" in result.stderr
