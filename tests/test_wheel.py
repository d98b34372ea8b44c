"""The built wheel holds all that a run needs: it is installed and labels one photo."""

import json
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import photo_path

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
PACKAGES = ("autolabel", "regionspot", "train", "integrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing of an earlier build gets into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        shutil.copy(ROOT / name, source / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_labels_an_image_in_an_environment_of_its_own(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    install = ["install", "--quiet", "--no-deps", "--target", packages, wheel]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    # The dependencies are this environment's: a .pth of a .pth is not followed, so that the
    # checkout, which is installed here as editable, cannot be found through it.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    (tmp_path / "photos").mkdir()
    shutil.copy(photo_path("chelsea"), tmp_path / "photos")
    (tmp_path / "words.txt").write_text("cat\nmotorcycle\n")

    python = [environment / "bin/python", "-I"]  # without PYTHONPATH
    where = subprocess.run(
        [*python, "-c", "import autolabel, train, regionspot; print(regionspot.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(packages)
    command = ["-m", "autolabel", "run", "photos", "--vocab", "words.txt", "--no-fiftyone"]
    subprocess.run([*python, *command], cwd=tmp_path, check=True, capture_output=True)
    labels = json.loads((tmp_path / "runs/photos/labels.coco.json").read_text())
    names = {each["id"]: each["name"] for each in labels["categories"]}
    assert {names[each["category_id"]] for each in labels["annotations"]} == {"cat"}
