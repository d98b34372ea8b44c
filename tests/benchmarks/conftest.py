"""Benchmarks run with `make bench`, or by hand on a device of choice.

pytest -s -o python_files='bench_*.py' tests/benchmarks --device cuda
"""

import pytest
import torch

from regionspot.config import resolve_device


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu or cuda: what benchmarks run on")
    parser.addoption("--images", default="5000", help="number of images with stored regions")
    parser.addoption("--labelled", help="folder with instances.json and images/ of COCO's layout")
    parser.addoption("--against", help="commit that bench_bars compares this one with")
    parser.addoption("--photos", default="8", help="number of photos that bench_bars labels")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return resolve_device(str(request.config.getoption("--device")))
