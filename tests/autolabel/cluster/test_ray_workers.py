"""What an actor does, called in this process; `tests/ray` has real clusters."""

import json
import os
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest

from autolabel.cluster import ray_workers as ray
from autolabel.cluster.ray_workers import RayWorkers, ShardActor, ray_workers
from autolabel.options import Options
from autolabel.run.manifest import RunFolder
from autolabel.run.plan import Plan, RunRequest, make_plan
from regionspot.errors import InputError
from tests.autolabel.helpers import Autolabel, FinishedRun


@pytest.fixture
def plan(finished: FinishedRun, tmp_path: Path) -> Plan:
    """The plan of the finished run, into another folder."""
    options = Options(shard_size=2, batch_size=1, conf_threshold=0.05)
    source, out = str(finished.photos), tmp_path / "run"
    request = RunRequest(
        source=source, words=finished.words, out=out, options=options, fiftyone=False
    )
    return make_plan(request)


def job(plan: Plan, finished: FinishedRun, **model: str) -> "ray._Job":
    """What an actor is given of a run that has begun."""
    begun = replace(plan.wanted, model=finished.manifest.model | model)
    plan.folder.mkdir(exist_ok=True)
    RunFolder(plan.folder, begun).update()
    images = replace(plan.source, images=())
    plan = replace(plan, source=images)
    return ray._Job(plan, plan.folder, begun.started, "cpu", overlap=False)


def test_an_actor_writes_the_shard_of_a_run(plan: Plan, finished: FinishedRun) -> None:
    actor = ShardActor(job(plan, finished))
    images = json.dumps([astuple(each) for each in plan.source.images[2:4]])
    written = actor({"index": [1], "images": [images]})
    assert written["index"] == [1]
    assert json.loads(written["shard"][0]) == asdict(finished.manifest.shards[1])
    assert json.loads(written["seconds"][0]).keys() == finished.manifest.seconds.keys()
    file = finished.manifest.shards[1].file
    assert (plan.folder / file).read_bytes() == (finished.folder / file).read_bytes()


def test_other_weights_on_a_machine_are_refused(plan: Plan, finished: FinishedRun) -> None:
    with pytest.raises(InputError, match="has other head than the run"):
        ShardActor(job(plan, finished, head="of another training"))


def test_folders_that_a_machine_does_not_see_are_refused(
    plan: Plan, finished: FinishedRun, tmp_path: Path
) -> None:
    begun = job(plan, finished)
    with pytest.raises(InputError, match="does not see the run folder"):
        ShardActor(replace(begun, folder=tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="does not see the run folder"):
        ShardActor(replace(begun, started="another time"))
    source = replace(begun.plan.source, root=tmp_path / "no images")
    with pytest.raises(InputError, match="no folder"):
        ShardActor(replace(begun, plan=replace(begun.plan, source=source)))


def test_workers_are_as_many_as_the_cluster_has_room_for() -> None:
    assert ray_workers(0, "", 0) is None
    assert ray_workers(2, "", 0) == RayWorkers(count=2)
    assert RayWorkers()._fitting({"CPU": 12.0}) == 12
    halves = RayWorkers(address="auto", gpus_per_worker=0.5)
    assert halves._fitting({"CPU": 12.0, "GPU": 4.0}) == 8
    assert halves.device == "cuda"
    assert halves._cpus({"CPU": 12.0}, 8) == 1


def test_options_that_do_not_go_together(autolabel_cli: Autolabel, finished: FinishedRun) -> None:
    result = autolabel_cli(*finished.command, "--gpus-per-worker", 1)
    assert result.exit_code == 1
    assert "--gpus-per-worker goes with --workers or --ray" in result.output


def test_what_an_actor_refused_is_the_message() -> None:
    refused = RuntimeError("the actor died")
    refused.__cause__ = InputError("the worker on a has no folder b")
    assert str(ray._as_input_error(refused, Path("run"))) == "the worker on a has no folder b"
    died = ray._as_input_error(RuntimeError("\x1b[36mdied\x1b[0m\n again"), Path("run"))
    assert "RuntimeError: died again" in str(died)
    assert "\x1b" not in str(died)


def test_the_token_of_an_own_cluster_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    seen = []

    def missing() -> object:
        seen.append((os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])))
        raise InputError(ray.NOT_INSTALLED)

    monkeypatch.setattr(ray, "_imported", missing)
    with pytest.raises(InputError, match="not installed"), ray.connected("", 1):
        pass
    assert seen == [("token", 64)]
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
