"""Commands over a real cluster of two nodes: whatever dies, the files have the same bytes.

Its own target, `make test-ray`: each command loads the model in three processes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from autolabel.run.manifest import COCO, CONTACT_SHEET, LVIS, REGIONS, SKIPPED
from tests.conftest import PHOTOS, photo_path

ROOT = Path(__file__).parents[2]
IMAGES, BROKEN = 12, "broken.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, one of which cannot be read, and words."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    for number in range(IMAGES):
        photo = Image.open(photo_path(PHOTOS[number % len(PHOTOS)])).convert("RGB")
        photo.resize((200 + number, 150)).save(folder / "photos" / f"{number}.jpg")
    (folder / "photos" / BROKEN).write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    (folder / "words.txt").write_text("cat\ncup\nperson\nrocket\n")
    return folder


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each, on this machine."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1)
    try:
        yield found
    finally:
        found.shutdown()


def start(folder: Path, run: str, *options: object) -> "subprocess.Popen[str]":
    command = ["run", "photos", "--vocab", "words.txt", "--out", f"{run}/run", "--no-fiftyone"]
    return start_command(folder, *command, "--shard-size", "1", *options)


def start_command(folder: Path, *command: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "autolabel", *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 3) -> str:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, bytes]:
    """The files of a run of one process."""
    finish(start(folder, "alone"))
    return contents(folder / "alone")


def contents(parent: Path) -> dict[str, bytes]:
    """Bytes of all files of the run in a folder, but for the manifest, which has the time."""
    run = parent / "run"
    paths = [*(run / REGIONS).iterdir(), *(run / name for name in (COCO, LVIS, SKIPPED))]
    return {path.name: path.read_bytes() for path in [*paths, run / CONTACT_SHEET]}


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def shards(folder: Path, run: str) -> int:
    return len(list((folder / run / "run" / REGIONS).glob("*.safetensors")))


def shards_in(manifest: Path) -> int:
    return len(json.loads(manifest.read_text())["shards"])


def actors() -> list[psutil.Process]:
    """Processes of this machine that compute shards."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if "PoolActor" in " ".join(each.info["cmdline"] or ())]


def test_a_killed_actor_is_replaced(
    folder: Path, cluster: Cluster, expected: dict[str, bytes]
) -> None:
    process = start(folder, "actor", "--ray", cluster.address)
    wait_for(lambda: shards(folder, "actor") >= 2, process)
    actors()[0].kill()
    output = finish(process)
    assert "2 workers on 2 machines" in output
    assert f"skipped: {BROKEN}" in output
    assert contents(folder / "actor") == expected


def test_a_killed_node_is_done_without(
    folder: Path, cluster: Cluster, expected: dict[str, bytes]
) -> None:
    process = start(folder, "node", "--ray", cluster.address)
    wait_for(lambda: shards(folder, "node") >= 2, process)
    (second,) = cluster.worker_nodes
    cluster.remove_node(second, allow_graceful=False)
    finish(process)
    assert contents(folder / "node") == expected


def test_a_killed_driver_is_resumed_by_the_same_command(
    folder: Path, cluster: Cluster, expected: dict[str, bytes]
) -> None:
    process = start(folder, "driver", "--ray", cluster.address)
    manifest = folder / "driver/run/run.json"
    wait_for(lambda: manifest.exists() and shards_in(manifest), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < shards_in(manifest) < IMAGES
    finish(start(folder, "driver", "--workers", 2))
    assert contents(folder / "driver") == expected


def test_no_cluster_is_one_line(folder: Path) -> None:
    output = finish(start(folder, "none", "--ray", "127.0.0.1:1"), 1)
    assert "no Ray cluster answers at 127.0.0.1:1" in output


@pytest.fixture
def labelled(folder: Path, expected: dict[str, bytes]) -> Path:
    """COCO JSON of the run's labels of the photos that could be read."""
    path = folder / "labelled.json"
    path.write_bytes(expected[COCO])
    return path


def test_a_cluster_evaluates_what_one_process_does(
    folder: Path, cluster: Cluster, labelled: Path
) -> None:
    command = ["evaluate", "--dataset", labelled, "--images", "photos", "--bootstrap", 0]
    command += ["--no-baselines", "--json", "--out"]
    finish(start_command(folder, *command, "report-alone"), 0)
    finish(start_command(folder, *command, "report-ray", "--ray", cluster.address), 0)
    found = [
        json.loads((folder / f"report-{n}/figures.json").read_text()) for n in ("alone", "ray")
    ]
    for row in (row for each in found for row in each["benchmark"]):
        del row["seconds"]
    assert found[0] == found[1]


def test_a_cluster_extracts_what_one_process_does(
    folder: Path, cluster: Cluster, labelled: Path
) -> None:
    data = folder / "data"
    data.mkdir()
    (data / "images").symlink_to(folder / "photos")
    labelled.rename(data / "instances.json")
    command = ["train", "extract", "--data", "data", "--runtime", "openvino", "--cache"]
    finish(start_command(folder, *command, "features-alone", "--workers", 1), 0)
    finish(start_command(folder, *command, "features-ray", "--ray", cluster.address), 0)
    found = [
        {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*.safetensors")}
        for cache in (folder / "features-alone", folder / "features-ray")
    ]
    assert found[0]
    assert found[0] == found[1]
