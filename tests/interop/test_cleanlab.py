"""cleanlab scores labels beside those of a run, for the figures of `autolabel audit`."""

from dataclasses import replace

from autolabel.audit.cleanlab_scores import cleanlab_scores
from tests.autolabel.audit.test_audit import WORDS, images, with_labels
from tests.interop.conftest import PYTHON


def test_a_swapped_label_is_the_most_likely_wrong_one() -> None:
    data = images(4)
    cat, dog = (replace(each, score=0.99) for each in data[2][1].annotations)
    data = [(stored, labels, replace(labels, annotations=(cat, dog))) for stored, labels, _ in data]
    data[2] = with_labels(data[2], replace(cat, category_id=2), dog)
    found = cleanlab_scores(PYTHON, data, WORDS, list(WORDS.values()))
    assert set(found) == {"cleanlab, swap", "cleanlab, quality"}
    for scores in found.values():
        assert len(scores) == 8
        assert scores.argmax() == 4
