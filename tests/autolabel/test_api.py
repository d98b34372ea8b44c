"""The tool from Python: two photos are labelled, read in both forms, relabelled and exported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autolabel
from autolabel import Run, export, label, relabel
from autolabel.demo import write_photos
from integrations.formats.coco import read_coco
from integrations.vocabulary_file import read_words, word_list
from regionspot.errors import InputError
from regionspot.types import decode_mask
from tests.autolabel.helpers import Autolabel

WORDS = {"person": [], "cat": ["kitten"], "cup": ["coffee cup"]}
OPTIONS: dict[str, Any] = {"fiftyone": False, "conf_threshold": 0.05}


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.tasks: list[tuple[str, int, int]] = []
        self.steps = 0

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, task: str, total: int, completed: int = 0) -> None:
        self.tasks.append((task, total, completed))

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self.steps += steps


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("api") / "pets", ["cat", "coffee"])


@pytest.fixture(scope="module")
def run(photos: Path) -> Run:
    return label(photos, WORDS, out=photos.parent / "run", **OPTIONS)


def test_rows_say_what_the_label_file_says(run: Run) -> None:
    rows = run.rows()
    assert len(rows) == run.manifest.counts["labels"] > 0
    assert {row.file_name for row in rows} == {"cat.jpg", "coffee.jpg"}
    best = rows[0]
    assert (best.file_name, best.word) == ("cat.jpg", "cat")
    for row in rows:
        assert row.word in WORDS
        assert row.runner_up in WORDS.keys() - {row.word}
        assert 0.05 <= row.score <= 1
        assert 0 <= row.margin <= 1
        assert 0.1 <= row.presence <= 1
        x1, y1, x2, y2 = row.box
        assert 0 <= x1 < x2
        assert 0 <= y1 < y2
        assert row.mask is not None
        assert decode_mask(row.mask).shape == tuple(row.mask["size"])


def test_detections_hold_the_same_labels(run: Run, photos: Path) -> None:
    rows = iter(run.rows())
    for path, detections in run.detections():
        assert path.parent == photos.resolve()
        assert path.is_file()
        assert detections.xyxy.dtype == np.float32
        assert detections.mask is not None
        names = detections.data["class_name"].tolist()
        assert [list(WORDS)[each] for each in detections.class_id] == names
        for index, name in enumerate(names):
            row = next(rows)
            assert (row.file_name, row.word) == (path.name, name)
            assert detections.xyxy[index].tolist() == pytest.approx(row.box)
            assert detections.confidence[index] == pytest.approx(row.score)
            assert (detections.mask[index] == decode_mask(row.mask)).all()
    assert next(rows, None) is None


def test_an_image_without_labels_and_a_run_without_masks(photos: Path) -> None:
    images = [photos / "coffee.jpg", str(photos / "cat.jpg")]
    out = photos.parent / "two files"
    reporter = Recorder()
    some = label(
        images, ["horse"], out=out, masks=False, presence_threshold=1, reporter=reporter, **OPTIONS
    )
    assert some.rows() == []
    found = dict(some.detections())
    assert [path.name for path in found] == ["coffee.jpg", "cat.jpg"]
    assert all(len(each) == 0 and each.mask is None for each in found.values())
    assert reporter.tasks == [("labelling", 2, 0)]
    assert reporter.steps == 2
    assert "writing labels" in reporter.messages


def test_it_is_the_run_that_the_command_line_makes(
    run: Run, photos: Path, autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("person\ncat: kitten\ncup: coffee cup\n")
    command = ["run", photos, "--vocab", words, "--out", run.folder, "--no-fiftyone"]
    result = autolabel_cli(*command, "--conf-threshold", "0.05")
    assert result.exit_code == 0, result.output
    assert "complete already" in result.output
    again = label(str(photos), str(words), out=str(run.folder), **OPTIONS)
    assert again.rows() == run.rows() == Run.open(run.folder).rows()


def test_other_words_and_another_format(run: Run, tmp_path: Path) -> None:
    other = relabel(run, ["animal", "crockery"], out=tmp_path / "other", conf_threshold=0.1)
    assert other.manifest.regions_of == str(run.folder.resolve())
    assert {row.word for row in other.rows()} <= {"animal", "crockery"}
    assert relabel(run.folder, ["zebra"]).folder == run.folder.with_name("run-words")
    written = export(run, tmp_path / "exported", min_confidence=0.3)
    assert written.path == tmp_path / "exported" / "labels.coco.json"
    assert written.annotations == sum(row.score >= 0.3 for row in run.rows())
    assert len(read_coco(written.path).images) == 2


def test_what_cannot_be_used_is_one_line(photos: Path, tmp_path: Path) -> None:
    two = [photos / "cat.jpg", photos / "cat.jpg"]
    for images, words, options, expected in (
        (photos, ["cat"], {"iou": 2}, "--iou must be from 0 to 1, got 2"),
        (photos, ["cat"], {"iou": "0.5"}, "--iou must be a valid number, got '0.5'"),
        (photos, [], {}, "word 1: there is no word"),
        (photos, tmp_path / "none.txt", {}, "none.txt cannot be read"),
        (tmp_path / "none", ["cat"], {}, "none is not there"),
        ([tmp_path / "none.jpg"], ["cat"], {}, "none.jpg is not there; give paths of image files"),
        ([], ["cat"], {}, "holds no image"),
        (two, ["cat"], {}, "lists 'cat.jpg' under more than one id"),
    ):
        out = tmp_path / "out"
        with pytest.raises(InputError) as caught:
            label(images, words, out=out, fiftyone=False, **options)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not out.exists()


def test_unknown_keywords_and_names_are_pythons_own_errors(photos: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        label(photos, ["cat"], colour="red")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="paint"):
        autolabel.paint  # noqa: B018


def test_words_from_python_follow_the_rules_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("person\ncat: kitten\n")
    assert word_list({"person": (), "cat": ["cat", "kitten"]}) == read_words(path)
    assert word_list({"person": None, "cat": {"synonyms": "kitten"}}) == read_words(path)
    assert word_list(["person", {"name": "cat", "synonyms": ["kitten"]}]) == read_words(path)
    prompts = word_list({"a cat": "cat", "a person": "person", "a kitten": "cat"})
    assert prompts.as_mapping() == {"cat": ["a cat", "a kitten"], "person": ["a person"]}
    for words, expected in (
        (["cat", "cat "], "word 2: 'cat' is on word 1 already"),
        ({"cat": ["kitten", "kitten"]}, "'kitten' is on the same word already"),
        (["cat", " "], "word 2: name: expected a text that is not empty, got ' '"),
        (["cat", 3], "word 2: name: expected a text that is not empty, got 3"),
        ({"cat": [], "a dog": "dog"}, "got both"),
        ({"cat": {"threshold": 2}}, "word 1 (cat): threshold must be from 0 to 1, got 2"),
        (["a\x07b"], "holds a character that cannot be printed"),
    ):
        with pytest.raises(InputError) as caught:
            word_list(words)  # type: ignore[arg-type]
        assert expected in str(caught.value)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, autolabel;"
        "print([name for name in ('torch', 'fiftyone', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
