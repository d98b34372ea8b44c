"""`autolabel evaluate` over two files: the metrics it prints, the page, JSON and CSV."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from autolabel.evaluation.diagnostics import NOT_FOUND
from autolabel.evaluation.evaluate import evaluate_sets
from autolabel.evaluation.plots import confused_classes
from autolabel.evaluation.report import percent, write_report
from integrations.annotations import Category
from integrations.formats.coco import write_coco
from integrations.formats.lvis import write_lvis
from integrations.progress import NullReporter
from tests.autolabel.evaluation.factories import random_sets
from tests.autolabel.helpers import Autolabel


def test_the_most_confused_classes_come_first() -> None:
    found = Counter({("a", "b"): 9, ("c", "d"): 2, ("e", "e"): 50, ("f", NOT_FOUND): 30})
    assert confused_classes(found) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("federated", [True, False])
def test_the_report_is_one_page_that_loads_nothing(
    autolabel_cli: Autolabel, tmp_path: Path, federated: bool
) -> None:
    ground_truth, predicted = random_sets(4, federated=federated)
    write = write_lvis if federated else write_coco
    write(tmp_path / "gt.json", ground_truth.categories, ground_truth.images)
    extra = (*predicted.categories, Category(999, "<dragon>"))
    write_coco(tmp_path / "pred.json", extra, predicted.images)
    out = tmp_path / "report"
    command = ["evaluate", "--gt", tmp_path / "gt.json", "--pred", tmp_path / "pred.json"]
    result = autolabel_cli(*command, "--out", out, "--bootstrap", 10)
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
    (found,) = figures["results"]
    assert ("AP_r" in found["boxes"]) == federated
    ap = found["boxes"]["AP"]
    assert ap["low"] <= ap["value"] <= ap["high"]
    upper_bound = found["upper_bound"]["AP"]
    assert upper_bound["value"] > ap["value"]
    assert found["not_matched"]["predicted"] == ["<dragon>"]
    assert f"{percent(ap['value'])}" in result.output
    with (out / "words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"boxes", "masks"}
    assert "is there already" in autolabel_cli(*command, "--out", out).stderr


def test_without_resamples_the_report_has_no_intervals(
    autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    ground_truth, predicted = random_sets(4)
    write_lvis(tmp_path / "gt.json", ground_truth.categories, ground_truth.images)
    write_coco(tmp_path / "pred.json", predicted.categories, predicted.images)
    files = ["--gt", tmp_path / "gt.json", "--pred", tmp_path / "pred.json"]
    found = {}
    # The former name of the option goes on working.
    for option, resamples in (("--bootstrap", 0), ("--draws", 2)):
        out = tmp_path / str(resamples)
        result = autolabel_cli("evaluate", *files, "--out", out, option, resamples)
        assert result.exit_code == 0, result.output
        page = (out / "index.html").read_text(encoding="utf-8")
        assert ("calibration error" in page) == ("95% CI" in page) == (resamples > 0)
        assert page.count("<svg") == 4 + (resamples > 0)
        assert ("95% CI" in result.output) == (resamples > 0)
        (found[resamples],) = json.loads((out / "figures.json").read_text())["results"]
    assert found[0]["calibration_error"] is None
    for kind in ("boxes", "masks", "upper_bound"):
        assert {each["low"] for each in found[0][kind].values()} == {None}
        values = [
            {name: each["value"] or 0.0 for name, each in found[resamples][kind].items()}
            for resamples in (0, 2)
        ]
        assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_same_files_same_bytes(tmp_path: Path) -> None:
    data = random_sets(6)
    for name in ("a", "b"):
        write_report(tmp_path / name, "x", [evaluate_sets("x", *data, 5, NullReporter())])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_bad_requests_are_refused(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text('{"images": [{"id": 1, "file_name": "a.jpg"}]}')
    for arguments, message in (
        ([], "give --gt GT.json with --pred"),
        (["--gt", tmp_path / "gt.json"], "give --gt GT.json with --pred"),
        (["--gt", tmp_path / "gt.json", "--pred", tmp_path / "gt.json"], "holds no label"),
        (["--gt", "x", "--pred", "y", "--bootstrap", "-1"], "--bootstrap must be 0 or more"),
    ):
        result = autolabel_cli("evaluate", *arguments, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "out").exists()
