"""The command itself: killed and started again, and in two processes that share its steps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from regionspot.checkpoint import load_head
from regionspot.config import preset
from tests.conftest import photo_path
from train.trainer import STATE

ROOT = Path(__file__).parents[2]
ITERATIONS = 24
SETTINGS = (
    "epochs=0",
    f"iterations={ITERATIONS}",
    "images_per_step=2",
    "held_out=0.2",
    "save_every=3",
    "evaluate_every=12",
    # The paper's. Adam makes steps of the rate's size of what rounding leaves of a gradient of 0,
    # such as that of the attention's key bias.
    "learning_rate=2.5e-5",
    "precision=float32",
    "teachers=1",
    "teacher_epochs=1",
    "model.head.dropout=0",
    "model.head.depth=1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos of two words, and the folder that the commands run in."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "data" / "images").mkdir(parents=True)
    entries, annotations = [], []
    for number, name in enumerate(("chelsea", "coffee", "astronaut", "rocket", "chelsea"), 1):
        file = f"{number}.jpg"
        Image.open(photo_path(name)).convert("RGB").resize((96, 64)).save(
            folder / "data" / "images" / file
        )
        entries.append({"id": number, "file_name": file, "width": 96, "height": 64})
        for box in ([5, 5, 60, 50], [20, 10, 30, 30])[: 1 + number % 2]:
            word = 1 + len(annotations) % 2
            annotations.append({"image_id": number, "category_id": word, "bbox": box})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cup"}]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "data" / "instances.json").write_text(json.dumps(content))
    return folder


def start(folder: Path, run: str, *options: str, launcher: str = "") -> "subprocess.Popen[str]":
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, *launcher.split(), "-m", "train", "mini", "--data", "data"]
    places = ["--run-folder", run, "--out", f"{run}/head.safetensors", "--workers", "2"]
    return subprocess.Popen(
        [*command, *places, "--cache", "cache", *settings, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def reference(folder: Path) -> Path:
    """The run folder of a training that was never stopped."""
    output = finish(start(folder, "whole"))
    words = " ".join(output.split())
    assert words.index("teacher 1 of 1") < words.index(f"step {ITERATIONS}/{ITERATIONS}: data held")
    return folder / "whole"


@pytest.fixture
def killed(folder: Path, reference: Path) -> Path:
    """The run folder of a training that was killed after its first state was written."""
    process = start(folder, "killed", "--no-curves")
    try:
        state = folder / "killed" / STATE
        while not state.exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return folder / "killed"


def steps_done(run: Path) -> int:
    with safe_open(run / STATE, "pt") as file:
        return int(file.metadata()["step"])


def test_killed_and_started_again_it_ends_with_the_same_weights(
    folder: Path, reference: Path, killed: Path
) -> None:
    assert 0 < steps_done(killed) < ITERATIONS
    finish(start(folder, "killed", "--no-curves"))
    expected, got = load_file(reference / STATE), load_file(killed / STATE)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
    heads = [(run / "head.safetensors").read_bytes() for run in (reference, killed)]
    assert heads[0] == heads[1]


def test_two_processes_end_with_the_weights_of_one(folder: Path, reference: Path) -> None:
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2"
    output = finish(start(folder, "two", "--device", "cpu", "--no-curves", launcher=launcher))
    assert output.count("wrote two/head.safetensors") == 1
    expected, got = load_file(reference / STATE), load_file(folder / "two" / STATE)
    for name, tensor in expected.items():
        if name.startswith("head."):
            torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5)


def test_the_settings_lie_beside_the_state_and_in_the_checkpoint(reference: Path) -> None:
    settings = json.loads((reference / "recipe.json").read_text())
    assert settings["recipe"]["iterations"] == ITERATIONS
    assert settings["data"]["sets"][0]["words"] == 2
    with safe_open(reference / "head.safetensors", "pt") as file:
        assert json.loads(file.metadata()["training"]) == settings
    assert any((reference / "tensorboard").iterdir())
    config = preset("mini")
    assert config.head.depth == 3
    with pytest.raises(ValueError, match="was trained with head"):
        load_head(reference / "head.safetensors", config)


def test_other_settings_are_refused_in_one_line(folder: Path, reference: Path) -> None:
    process = start(folder, "whole", "--set", "seed=1", "--no-curves")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert re.search(r"trained with other settings \(seed \d+, now \d+\); give another", line)
    assert "Traceback" not in output
