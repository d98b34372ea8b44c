"""The real FiftyOne and its MongoDB, in a folder of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.fiftyone.session import set_defaults, use_private_folder

MAKE = """
from pathlib import Path
import sys
from integrations.fiftyone.session import use_private_folder
use_private_folder(Path(sys.argv[1]))
import fiftyone as fo
dataset = fo.Dataset("photos", persistent=True)
dataset.add_sample(fo.Sample("/nowhere/ä.jpg", predictions=fo.Detections(detections=[
    fo.Detection(label="cat", bounding_box=[0, 0, 0.5, 0.5], confidence=0.5)])))
"""
USERS_OWN = """
import fiftyone as fo
fo.Dataset("of the user")
print("there", flush=True)
input()
"""
LOAD = """
from pathlib import Path
import json, sys
from integrations.fiftyone.session import use_private_folder
use_private_folder(Path(sys.argv[1]))
import fiftyone as fo
label = fo.load_dataset("photos").first().predictions.detections[0].label
print(json.dumps([fo.list_datasets(), label, fo.config.do_not_track, fo.config.database_dir]))
"""


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "FIFTYONE" not in name}
    return kept | {"HOME": str(home)}


def test_dataset_outlives_its_process_and_nothing_lands_at_home(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "private ä"
    home.mkdir()
    (home / ".fiftyone").mkdir()
    config = home / ".fiftyone/config.json"
    config.write_text('{"database_uri": "mongodb://127.0.0.1:1"}')
    for script in (MAKE, LOAD):
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)],
            env=clean_environment(home),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [["photos"], "cat", True, str(folder / "mongo")]
    assert list(home.rglob("*fiftyone*/**/*")) == [config]


def test_a_mongodb_that_runs_is_not_joined(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "private"
    home.mkdir()
    environment = clean_environment(home) | {"FIFTYONE_DATABASE_VALIDATION": "false"}
    with subprocess.Popen(
        [sys.executable, "-c", USERS_OWN],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        assert "there\n" in iter(user.stdout.readline, "")
        for script in (MAKE, LOAD):
            listed = subprocess.run(
                [sys.executable, "-c", script, str(folder)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        user.communicate("\n")
    assert json.loads(listed.splitlines()[-1])[0] == ["photos"]


def test_tests_run_in_a_private_folder() -> None:
    import fiftyone as fo

    assert "autolabel-tests-" in fo.config.database_dir
    assert fo.config.do_not_track
    assert fo.config.default_app_address == "127.0.0.1"


def test_settings_come_too_late_once_fiftyone_is_there(tmp_path: Path) -> None:
    import fiftyone  # noqa: F401

    with pytest.raises(AssertionError, match="already read"):
        use_private_folder(tmp_path)
    use_private_folder(Path(os.environ["FIFTYONE_DATABASE_DIR"]).parent)


def test_a_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIFTYONE_DO_NOT_TRACK")
    monkeypatch.setenv("FIFTYONE_DEFAULT_APP_ADDRESS", "0.0.0.0")
    set_defaults()
    assert os.environ["FIFTYONE_DO_NOT_TRACK"] == "true"
    assert os.environ["FIFTYONE_DEFAULT_APP_ADDRESS"] == "0.0.0.0"
