"""A run that is killed resumes with the same command and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fiftyone import ViewField as F

from autolabel.run.manifest import manifest_sha256, read_manifest
from regionspot.weights import sha256_of
from tests.autolabel.helpers import Autolabel, FinishedRun
from tests.integrations.detectors.tiny_models import detr

TIMEOUT_S = 600
# What two runs of one command may differ in.
VARIES = ("seconds", "started", "sha256")


def start(finished: FinishedRun, out: Path) -> subprocess.Popen[bytes]:
    program = "from autolabel.cli import main; main()"
    command = [*finished.command, "--out", str(out), "--no-fiftyone"]
    return subprocess.Popen([sys.executable, "-c", program, *command], stderr=subprocess.PIPE)


def content(folder: Path) -> dict[str, Any]:
    """Every file's bytes; of the manifest, what may not differ."""
    files: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(files["run.json"])
    files["run.json"] = {key: manifest[key] for key in manifest if key not in VARIES}
    return files


def shards_done(out: Path) -> int:
    path = out / "run.json"
    return len(json.loads(path.read_text())["shards"]) if path.exists() else 0


def test_killed_and_started_again_it_ends_as_if_never_stopped(
    finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / finished.folder.name
    process = start(finished, out)
    deadline = time.monotonic() + TIMEOUT_S
    while shards_done(out) < 1:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = shards_done(out)
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    assert not (out / "labels.coco.json").exists()

    first = (out / "regions" / "000000.safetensors").stat().st_mtime_ns
    _, stderr = (again := start(finished, out)).communicate(timeout=TIMEOUT_S)
    assert again.returncode == 0, stderr.decode()
    assert f"labelling: resuming after {2 * before} of 5" in stderr.decode()
    assert (out / "regions" / "000000.safetensors").stat().st_mtime_ns == first

    expected, got = content(finished.folder), content(out)
    expected["run.json"] |= {"fiftyone": None}
    assert got == expected


def test_what_a_complete_run_lost_is_made_again_and_its_review_stays(
    autolabel_cli: Autolabel, finished: FinishedRun, coarse: Path
) -> None:
    import fiftyone as fo

    manifest = read_manifest(coarse)
    target = manifest.fiftyone
    assert target is not None
    sample = fo.load_dataset(target.dataset).match(
        F(f"{target.label_field}.detections").length() > 0
    )
    sample = sample.first()
    sample[target.label_field].detections[0].label = "renamed by a person"
    sample.save()
    before = content(coarse)
    (coarse / "labels.lvis.json").unlink()
    os.truncate(coarse / "contact_sheet.png", 9)
    checked = autolabel_cli("verify", coarse, "--json")
    assert checked.exit_code == 1
    assert json.loads(checked.stdout)["damaged"] == ["labels.lvis.json", "contact_sheet.png"]
    words = coarse.parent / "coarse.txt"
    result = autolabel_cli(
        *("relabel", finished.folder, "--vocab", words, "--out", coarse),
        *("--label-field", target.label_field),
    )
    assert result.exit_code == 0, result.output
    assert content(coarse) == before
    assert autolabel_cli("verify", coarse).exit_code == 0
    sample.reload()
    assert sample[target.label_field].detections[0].label == "renamed by a person"


def test_what_is_damaged_is_made_again(finished: FinishedRun, tmp_path: Path) -> None:
    """A manifest that says "running" and a shard that was cut: as after a power failure."""
    import shutil

    from typer.testing import CliRunner

    from autolabel.cli import app

    out = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, out)
    manifest = json.loads((out / "run.json").read_text())
    manifest |= {"status": "running", "fiftyone": None}
    (out / "run.json").write_text(json.dumps(manifest | {"sha256": manifest_sha256(manifest)}))
    os.truncate(out / "regions" / "000001.safetensors", 99)
    (out / "labels.coco.json").unlink()
    result = CliRunner().invoke(app, [*finished.command, "--out", str(out), "--no-fiftyone"])
    assert result.exit_code == 0, result.output
    expected = content(finished.folder)
    expected["run.json"] |= {"fiftyone": None}
    assert content(out) == expected


def test_a_detector_with_other_weights_is_noticed(
    autolabel_cli: Autolabel, photos: Path, tmp_path: Path
) -> None:
    folder, out = detr(tmp_path), tmp_path / "run"
    (weights,) = folder.glob("*.safetensors")
    later = photos.rename(tmp_path / "later") / "rocket.jpg"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes((later.parent / "chelsea.jpg").read_bytes())
    command = ("run", photos, "--vocab", tmp_path / "words.txt", "--out", out, "--no-fiftyone")
    (tmp_path / "words.txt").write_text("cat\n")
    first = autolabel_cli(*command, "--detector", f"hf:{folder}")
    assert first.exit_code == 0, first.output
    name = f"hf:{folder}/{weights.name}"
    assert read_manifest(out).model[name] == sha256_of(weights)

    later.rename(photos / "rocket.jpg")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    again = autolabel_cli(*command, "--detector", f"hf:{folder}")
    assert again.exit_code == 1
    assert f"was begun with other {name}" in " ".join(again.output.split())
