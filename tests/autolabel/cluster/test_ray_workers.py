"""What an actor does, called in this process; `tests/ray` has real clusters."""

from dataclasses import replace
from pathlib import Path

import pytest

from autolabel.cluster import ray_workers as ray
from autolabel.cluster.ray_workers import ShardActor
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
    return ray._Job(replace(plan, source=images), plan.folder, begun.started, "cpu")


def test_an_actor_writes_the_shard_of_a_run(plan: Plan, finished: FinishedRun) -> None:
    actor = ShardActor(job(plan, finished))
    written = actor((1, plan.source.images[2:4]))
    assert written.index == 1
    assert written.shard == finished.manifest.shards[1]
    assert written.seconds.keys() == finished.manifest.seconds.keys()
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


def test_options_that_do_not_go_together(autolabel_cli: Autolabel, finished: FinishedRun) -> None:
    result = autolabel_cli(*finished.command, "--gpus-per-worker", 1)
    assert result.exit_code == 1
    assert "--gpus-per-worker goes with --workers or --ray" in result.output
