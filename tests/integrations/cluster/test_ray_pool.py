"""The actors of a pool: how many, what they refuse; `tests/ray` has real clusters."""

import os
import pickle

import pytest

from integrations.cluster import ray_pool as module
from integrations.cluster.ray_pool import PoolActor, RayPool, cpus_of_an_actor, ray_pool
from regionspot.errors import InputError


def test_an_actor_is_built_once_and_computes_a_task_a_call() -> None:
    built = []

    def build(cpus: int) -> "type[str]":
        built.append(cpus)
        return str

    actor = PoolActor(build, 2)
    for index, task in ((4, ("a", 1)), (0, None)):
        found = actor({"index": [index], "task": [pickle.dumps(task)]})
        assert found["index"] == [index]
        assert pickle.loads(found["result"][0]) == str(task)
    assert built == [2]


def test_workers_are_as_many_as_the_cluster_has_room_for() -> None:
    assert ray_pool(0, "", 0) is None
    assert ray_pool(2, "", 0) == RayPool(count=2)
    assert RayPool()._fitting({"CPU": 12.0}) == 12
    halves = RayPool(address="auto", gpus_per_worker=0.5)
    assert halves._fitting({"CPU": 12.0, "GPU": 4.0}) == 8
    assert halves.device == "cuda"


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([12.0], 8, 1),
        ([8.0], 2, 4),
        ([1.0, 1.0], 1, 1),  # no machine has two
        ([8.0, 2.0], 4, 2),
        ([4.0, 3.0], 2, 3),
        ([2.0], 5, 1),
        ([0.0, 4.0], 1, 4),
    ],
)
def test_an_actor_has_the_cpus_of_one_machine(
    nodes: list[float], count: int, expected: int
) -> None:
    assert cpus_of_an_actor(nodes, count) == expected


def test_what_an_actor_refused_is_the_message() -> None:
    refused = RuntimeError("the actor died")
    refused.__cause__ = InputError("the worker on a has no folder b")
    assert str(module.as_input_error(refused, "run")) == "the worker on a has no folder b"
    died = module.as_input_error(RuntimeError("\x1b[36mdied\x1b[0m\n again"), "run")
    assert "RuntimeError: died again" in str(died)
    assert "\x1b" not in str(died)


def test_the_token_of_an_own_cluster_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    seen = []

    def missing() -> object:
        seen.append((os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])))
        raise InputError(module.NOT_INSTALLED)

    monkeypatch.setattr(module, "_imported", missing)
    with pytest.raises(InputError, match="not installed"), module.connected("", 1):
        pass
    assert seen == [("token", 64)]
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
