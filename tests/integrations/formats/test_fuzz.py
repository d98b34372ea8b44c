"""A seeded tenth of the generated inputs: `make fuzz` checks all of them."""

from tests.integrations.formats.fuzz import run


def test_a_mutated_label_set_is_read_or_refused_in_one_line() -> None:
    counts, problems = run(1000)
    assert not problems, "\n\n".join(problems[:5])
    assert sum(counts.values()) == 1000
    assert min(counts[name] for name in ("coco", "lvis", "yolo", "voc", "cvat")) > 50
