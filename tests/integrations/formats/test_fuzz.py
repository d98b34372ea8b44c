"""A seeded tenth of the generated inputs: `make fuzz` checks all of them."""

from pathlib import Path

import pytest

from tests.integrations.formats.fuzz import check, generate, run


def test_a_mutated_label_set_is_read_or_refused_in_one_line() -> None:
    counts, problems = run(1000)
    assert not problems, "\n\n".join(problems[:5])
    assert sum(counts.values()) == 1000
    assert min(counts[name] for name in ("coco", "lvis", "yolo", "voc", "cvat")) > 50


@pytest.mark.parametrize("seed", [202611, 204698, 205680, 206510, 300796, 8332, 8795])
def test_inputs_that_once_were_wrong(tmp_path: Path, seed: int) -> None:
    """Boxes far outside, an enormous image, a long text, a number for bytes, an encoding."""
    assert check(generate(seed), tmp_path) == ""
