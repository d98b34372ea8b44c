"""`autolabel evaluate` over two files: figures, what is behind them, and the page."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from autolabel.evaluation.cache import Record, WorkFile
from autolabel.evaluation.diagnostics import MISSED, calibration, confusions, recall_by_size
from autolabel.evaluation.evaluate import judge
from autolabel.evaluation.matching import match
from autolabel.evaluation.pairing import pair
from autolabel.evaluation.plots import confused_words
from autolabel.evaluation.report import percent, write_report
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.coco import write_coco
from integrations.formats.lvis import write_lvis
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel
from tests.integrations.evaluation.factories import truth_and_predictions


def sets(truth: list[Annotation], predicted: list[Annotation]) -> tuple[LabelledSet, LabelledSet]:
    words = (Category(1, "cat"), Category(2, "dog"))
    rows = (truth, predicted)
    return tuple(  # type: ignore[return-value]
        LabelledSet(words, (LabelledImage(1, "a.jpg", 100, 100, tuple(row)),)) for row in rows
    )


def test_calibration_error_is_the_gap() -> None:
    box = (0, 0, 50, 50)
    data = sets([Annotation(1, box)], [Annotation(1, box, 0.75), Annotation(2, box, 0.25)])
    found = calibration(match(pair(*data), "bbox"), 20)
    assert found.error == pytest.approx(0.25)
    assert found.count.sum() == 2
    assert np.nansum(found.right) == 1


def test_confusions_and_recall() -> None:
    truth = [
        Annotation(1, (0, 0, 20, 20)),
        Annotation(2, (50, 50, 99, 99)),
        Annotation(1, (0, 60, 20, 80)),
        Annotation(2, (0, 0, 99, 99), is_crowd=True),
    ]
    predicted = [
        Annotation(1, (0, 0, 20, 21), 0.9),
        Annotation(2, (0, 0, 20, 20), 0.8),
        Annotation(1, (50, 50, 99, 90), 0.7),
    ]
    paired = pair(*sets(truth, predicted))
    assert confusions(paired) == {("cat", "cat"): 1, ("dog", "cat"): 1, ("cat", MISSED): 1}
    recalls = {(each.size, each.iou): each for each in recall_by_size(paired, 10)}
    assert recalls["all", 0.5].recall == pytest.approx(2 / 3)
    assert recalls["small", 0.5].boxes == 2
    assert recalls["medium", 0.75].recall == 1
    assert np.isnan(recalls["large", 0.5].recall)


def test_the_most_confused_words_come_first() -> None:
    found = Counter({("a", "b"): 9, ("c", "d"): 2, ("e", "e"): 50, ("f", MISSED): 30})
    assert confused_words(found) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("federated", [True, False])
def test_the_report_is_one_page_that_loads_nothing(
    autolabel_cli: Autolabel, tmp_path: Path, federated: bool
) -> None:
    truth, predicted = truth_and_predictions(4, federated=federated)
    write = write_lvis if federated else write_coco
    write(tmp_path / "gt.json", truth.categories, truth.images)
    extra = (*predicted.categories, Category(999, "<dragon>"))
    write_coco(tmp_path / "pred.json", extra, predicted.images)
    out = tmp_path / "report"
    command = ["evaluate", "--gt", tmp_path / "gt.json", "--pred", tmp_path / "pred.json"]
    result = autolabel_cli(*command, "--out", out, "--draws", 10)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "index.html",
        "figures.json",
        "words.csv",
        "confusions.csv",
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert "<script" not in page
    assert "&lt;dragon&gt;" in page
    assert page.count("<svg") == 5
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    (found,) = figures["judgements"]
    assert ("AP_r" in found["boxes"]) == federated
    ap = found["boxes"]["AP"]
    assert ap["low"] <= ap["value"] <= ap["high"]
    reachable = found["boxes_with_true_words"]["AP"]
    assert reachable["value"] > ap["value"]
    assert found["not_matched"]["predicted"] == ["<dragon>"]
    assert f"{percent(ap['value'])}" in result.output
    with (out / "words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"boxes", "masks"}
    assert "holds a report" in autolabel_cli(*command, "--out", out).stderr


def test_same_files_same_bytes(tmp_path: Path) -> None:
    data = truth_and_predictions(6)
    for name in ("a", "b"):
        write_report(tmp_path / name, "x", [judge("x", *data, 5)])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_bad_requests_are_refused(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text('{"images": [{"id": 1, "file_name": "a.jpg"}]}')
    for arguments, said in (
        ([], "give --gt GT.json with --pred"),
        (["--gt", tmp_path / "gt.json"], "give --gt GT.json with --pred"),
        (["--gt", tmp_path / "gt.json", "--pred", tmp_path / "gt.json"], "holds no label"),
        (["--gt", "x", "--pred", "y", "--draws", "0"], "--draws must be 1 or more"),
    ):
        result = autolabel_cli("evaluate", *arguments, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_work_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "work.jsonl"
    record = Record([[0.0, 0.0, 1.0, 1.0]], [0.9], [0], [3], [0.5], [2], 0.1, 7)
    WorkFile(path, "key").add(record)
    with path.open("a", encoding="utf-8") as out:
        out.write('{"boxes": [[0.0')
    again = WorkFile(path, "key")
    assert again.done == {7: record}
    assert not WorkFile(path, "other").done


def test_nothing_in_common(tmp_path: Path) -> None:
    truth, predicted = truth_and_predictions(1, images=2)
    with pytest.raises(InputError, match="no word in common"):
        judge("x", truth, LabelledSet((Category(1, "dragon"),), predicted.images[:0]))
