"""Every command of the README, run as written, in a folder like the one it speaks of."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from autolabel import options as defaults
from autolabel.demo import write_photos
from tests.autolabel.helpers import Autolabel, app_address_line, start_review

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
APP_PORT = 5151


def shell_commands() -> list[str]:
    """The commands of all bash blocks; what a here-document holds belongs to its command."""
    commands: list[str] = []
    end = ""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if end:
                commands[-1] += f"\n{line}"
                end = "" if line == end else end
                continue
            if commands and commands[-1].endswith("\\"):
                commands[-1] = commands[-1].removesuffix("\\") + line
                continue
            commands.append(line)
            if found := re.search(r"<<'(\w+)'", line):
                end = found[1]
    return [command for command in commands if command.strip()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Photos, a COCO file that names them, and a FiftyOne dataset that holds them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER", "true")
    photos = write_photos(tmp_path / "photos", ["cat", "coffee"])
    (tmp_path / ".venv").symlink_to(sys.prefix)
    names = sorted(path.name for path in photos.iterdir())
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images}))
    dataset = fo.Dataset("my-dataset", persistent=True)
    dataset.add_samples([fo.Sample(str(photos / name)) for name in names], progress=False)
    before = set(fo.list_datasets())
    yield tmp_path
    for name in {*fo.list_datasets()} - before | {"my-dataset"}:
        fo.delete_dataset(name)


def test_every_command_works_as_written(folder: Path, autolabel_cli: Autolabel) -> None:
    seen = set()
    for command in shell_commands():
        words = shlex.split(command, comments=True)
        seen.add(words[0])
        if words[0] == "make":
            # `make test` is running now, and `make demo` has a test of its own.
            subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        elif words[:2] == ["autolabel", "review"]:
            review_starts(words)
        elif words[0] == "autolabel":
            if words[1] == "train":
                correct_a_label(folder / "runs" / "photos")
            result = autolabel_cli(*words[1:])
            assert result.exit_code == 0, f"{command}\n{result.output}"
        else:
            subprocess.run(["bash", "-ec", command], check=True)
    assert seen == {"make", "source", "cat", "printf", "autolabel"}
    assert (folder / "runs" / "photos" / "contact_sheet.png").exists()
    assert (folder / "for-training" / "labels.coco.json").exists()
    assert {path.name for path in (folder / "runs").iterdir()} == {
        "photos",
        "photos-coarse",
        "photos-yaml",
        "photos-finetuned",
        "instances",
        "my-dataset",
    }


def correct_a_label(run: Path) -> None:
    """What a person does between `review` and `train`."""
    target = json.loads((run / "run.json").read_text())["fiftyone"]
    dataset = fo.load_dataset(target["dataset"])
    labels = f"{target['label_field']}.detections"
    sample = dataset.match(fo.ViewField(labels).length() > 0).first()
    sample[target["label_field"]].detections[0].label = "kitten"
    sample.save()


def review_starts(words: list[str]) -> None:
    """Start the App as written and end it by Ctrl-C, where nobody else has its port."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", APP_PORT)) == 0:
            return
    process = start_review(words[2:])
    try:
        assert f"http://127.0.0.1:{APP_PORT}" in app_address_line(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.communicate()


def test_what_the_readme_says_of_defaults_is_so() -> None:
    assert f"confidence below {defaults.REVIEW_CONFIDENCE}" in README
    assert f"margin below {defaults.REVIEW_MARGIN}" in README
    assert f"field `{defaults.LABEL_FIELD}`" in README


def test_every_python_program_works_as_written(folder: Path) -> None:
    import numpy as np

    tool, model = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space: dict[str, Any] = {}
    exec(tool, space)
    assert space["run"].folder == Path("runs/from-python")
    assert {row.word for row in space["run"].rows()} <= {"cat", "motorcycle"}
    assert space["path"].exists()
    space = {
        "image": np.zeros((30, 40, 3), np.uint8),
        "boxes": np.array([[1, 2, 20, 25]], np.float32),
    }
    exec(model, space)
    assert space["labels"].name(0) in {"cat", "dog"}


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_demo_labels_its_photos(tmp_path: Path) -> None:
    """`python -m autolabel.demo`, which `make demo` calls, in an empty folder."""
    from autolabel.demo import PHOTOS

    done = subprocess.run(
        [sys.executable, "-m", "autolabel.demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / ".work" / "demo" / "demo-run"
    assert f"contact sheet: {run.relative_to(tmp_path) / 'contact_sheet.png'}" in done.stdout
    content = json.loads((run / "labels.coco.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    files = {each["id"]: each["file_name"] for each in content["images"]}
    assert len(files) == len(PHOTOS)
    found = {(files[a["image_id"]], names[a["category_id"]]) for a in content["annotations"]}
    assert {("cat.jpg", "cat"), ("motorcycle.jpg", "motorcycle")} <= found
