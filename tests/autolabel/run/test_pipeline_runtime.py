"""The runtime of the image towers in a run: in its manifest, and when it is resumed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from autolabel.run.manifest import manifest_sha256, read_manifest
from autolabel.run.pipeline import runtime_of
from autolabel.run.plan import RunRequest, make_plan
from regionspot.devices.runtime import resolve_runtime
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel, FinishedRun
from tests.regionspot.factories import CPU


@pytest.fixture
def stopped(finished: FinishedRun, tmp_path: Path) -> Path:
    """The finished run before its labels were written, by an autolabel that knew torch alone."""
    out = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, out)
    manifest = json.loads((out / "run.json").read_text())
    del manifest["options"]["runtime"], manifest["model"]["runtime"]
    manifest |= {"status": "running", "fiftyone": None, "files": {}, "counts": {}}
    (out / "run.json").write_text(json.dumps(manifest | {"sha256": manifest_sha256(manifest)}))
    return out


def set_runtime(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "run.json").read_text())
    manifest["model"]["runtime"] = name
    (folder / "run.json").write_text(json.dumps(manifest | {"sha256": manifest_sha256(manifest)}))


def test_the_manifest_names_the_runtime(finished: FinishedRun) -> None:
    assert finished.manifest.options.runtime == "auto"
    chosen = resolve_runtime("auto", CPU, "mini")
    assert finished.manifest.model["runtime"].split()[0] == chosen


def test_a_run_of_before_runtimes_is_resumed_by_torch(
    autolabel_cli: Autolabel, finished: FinishedRun, stopped: Path
) -> None:
    result = autolabel_cli(*finished.command, "--out", stopped, "--no-fiftyone")
    assert result.exit_code == 0, result.output
    assert "runtime" not in read_manifest(stopped).model
    assert read_manifest(stopped).counts == finished.manifest.counts


def test_a_resumed_run_keeps_its_runtime(finished: FinishedRun, stopped: Path) -> None:
    request = RunRequest(
        source=str(finished.photos),
        words=finished.words,
        out=stopped,
        options=finished.manifest.options,
        fiftyone=False,
    )
    for name in ("torch", "openvino 2026.4.1"):
        set_runtime(stopped, name)
        assert runtime_of(make_plan(request), CPU) == name.split()[0]


def test_a_runtime_that_is_gone_is_said_in_one_line(
    autolabel_cli: Autolabel,
    finished: FinishedRun,
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_runtime(stopped, "openvino 2026.4.1")
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = autolabel_cli(*finished.command, "--out", stopped, "--no-fiftyone")
    assert result.exit_code == 1
    line = result.output.strip().splitlines()[-1]
    assert line.startswith(f"error: {stopped} was begun with openvino 2026.4.1, which cannot go on")
    assert "OpenVINO is not installed" in line
    assert line.endswith("choose another --out, or say --overwrite")


def test_another_version_does_not_go_on(
    autolabel_cli: Autolabel, finished: FinishedRun, stopped: Path
) -> None:
    set_runtime(stopped, "openvino 2001.1")
    result = autolabel_cli(*finished.command, "--out", stopped, "--no-fiftyone")
    assert result.exit_code == 1
    assert "was begun with other runtime" in result.output


def test_an_unknown_runtime_is_refused(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    result = autolabel_cli(*finished.command, "--out", tmp_path / "new", "--runtime", "abacus")
    assert result.exit_code == 1
    assert (
        "--runtime must be one of auto, torch, openvino, onnxruntime, got 'abacus'" in result.output
    )
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError):
        resolve_runtime("abacus", CPU, "mini")
