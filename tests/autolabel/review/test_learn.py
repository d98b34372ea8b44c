"""Reviewed labels that are examples of their words at once."""

import os
from pathlib import Path

import fiftyone as fo
import pytest

import autolabel
from autolabel.labels import LabelRow, Run
from autolabel.review.learn import with_words, words_of_run
from autolabel.run.manifest import read_manifest
from integrations.vocabulary_file import WordList, word_list
from regionspot.localizers.sam import SamLocalizer
from regionspot.model import RegionSpot
from tests.autolabel.helpers import Autolabel, read_json

Place = tuple[str, tuple[float, ...]]


def place(row: LabelRow) -> Place:
    return row.file_name, row.box


def review(run: Path) -> dict[str, list[Place]]:
    """Rename one animal, confirm one vehicle, and draw a box that no region overlaps."""
    rows = {
        word: [r for r in Run.open(run).rows() if r.word == word] for word in ("animal", "vehicle")
    }
    target = read_json(run / "run.json")["fiftyone"]
    dataset, field = fo.load_dataset(target["dataset"]), target["label_field"]
    best = {word: max(found, key=lambda row: row.score) for word, found in rows.items()}
    for sample in dataset:
        labels = sample[field].detections
        for word, row in best.items():
            for label in labels:
                if label.label == word and abs(label.confidence - row.score) < 1e-4:
                    label["reviewed"] = word == "vehicle"
                    label.label = "whiskers" if word == "animal" else word
        if Path(sample.filepath).name == best["animal"].file_name:
            box = [0.0, 0.0, 0.01, 0.01]
            labels.append(fo.Detection(label="speck", bounding_box=box))
        sample.save()
    return {"whiskers": [place(best["animal"])], "vehicle": [place(best["vehicle"])]}


def no_tower(*_: object) -> None:
    raise AssertionError("no image goes through a tower")


def test_reviewed_labels_are_examples_without_a_tower(
    autolabel_cli: Autolabel, coarse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = ("--label-field", f"learnt_{os.urandom(4).hex()}")
    command = ["relabel", coarse, "--learn-from-review", "--out", tmp_path / "learnt", *field]
    result = autolabel_cli(*command)
    assert result.exit_code == 1
    assert "holds no reviewed label of a word" in result.stderr
    assert "say --vocab FILE, or --learn-from-review" in autolabel_cli("relabel", coarse).stderr

    reviewed = review(coarse)
    monkeypatch.setattr(RegionSpot, "regions", no_tower)
    monkeypatch.setattr(RegionSpot, "embed", no_tower)
    monkeypatch.setattr(SamLocalizer, "encode", no_tower)
    result = autolabel_cli(*command)
    assert result.exit_code == 0, result.output
    assert "reviewed examples: vehicle 1, whiskers 1" in result.output
    assert "left out: 1 reviewed labels whose box no region" in result.output
    run = Run.open(tmp_path / "learnt")
    assert run.manifest.vocabulary["words"] == ["animal", "vehicle", "speck", "whiskers"]
    assert run.manifest.vocabulary["reviewed"] == {"vehicle": 1, "whiskers": 1}
    for word, places in reviewed.items():
        assert set(places) <= {place(row) for row in run.rows() if row.word == word}
    assert "complete already" in autolabel_cli(*command).output

    words, out = tmp_path / "words.txt", tmp_path / "by words"
    words.write_text("whiskers\nrocket\n")
    done = autolabel.relabel(
        coarse, words, learn_from_review=True, out=out, label_field=f"{field[1]}_words"
    )
    assert done.manifest.vocabulary["reviewed"] == {"whiskers": 1}
    assert set(reviewed["whiskers"]) <= {place(row) for row in done.rows()}


def test_words_of_a_run_are_those_it_was_made_with(coarse: Path) -> None:
    manifest = read_manifest(coarse)
    words = words_of_run(manifest)
    assert words.as_mapping() == {
        "animal": ["animal", "cat", "horse"],
        "vehicle": ["vehicle", "motorcycle", "rocket"],
    }
    assert words.sha256 == manifest.vocabulary["sha256"]


def test_new_words_come_before_background_words() -> None:
    words = word_list(
        [
            {"name": "cat", "threshold": 0.5, "group": "animal"},
            "cup",
            {"name": "shadow", "background": True},
        ]
    )
    assert with_words(words, ["cup", "moped"]) == WordList(
        ("cat", "cup", "moped", "shadow"),
        (("cat",), ("cup",), ("moped",), ("shadow",)),
        groups=("animal", "", "", ""),
        thresholds=(0.5, None, None, None),
        background=1,
    )
