"""Labels of a model as annotations, a vocabulary as categories, and the collector meanwhile."""

import gc
from pathlib import Path

import numpy as np
import pytest

from integrations.annotations import (
    as_rle,
    labelled_image,
    uncollected,
    vocabulary_categories,
)
from integrations.formats.lvis import read_lvis, write_lvis
from regionspot.types import Labels, decode_mask, encode_mask


def test_labels_of_a_model_become_annotations(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.bool_)
    mask[5:15, 10:30] = True
    labels = Labels(
        boxes=np.array([[10.12345, 5, 30, 15], [0, 0, 40, 30]], np.float32),
        class_id=np.array([1, 0]),
        score=np.array([0.9, 0.8], np.float32),
        runner_up=np.array([0, 1]),
        margin=np.array([0.5, 0.25], np.float32),
        presence=np.array([0.7, 0.1], np.float32),
        names=("cat", "Äpfel"),
        masks=(encode_mask(mask), encode_mask(~mask)),
    )
    image = labelled_image(labels, np.array([0.45, 0.4], np.float32), 5, "a.jpg", 40, 30)
    first, second = image.annotations
    assert first.box == (10.123, 5, 30, 15)
    assert (first.category_id, first.score) == (2, 0.45)
    assert first.attributes == {"runner_up": "cat", "margin": 0.5, "presence": 0.7}
    assert second.category_id == 1
    assert image.unverified == (1, 2)
    assert image.absent == ()
    categories = vocabulary_categories(labels.names)
    write_lvis(tmp_path / "labels.json", categories, [image])
    (found,) = read_lvis(tmp_path / "labels.json").images
    rle = as_rle(found.annotations[0].mask, 40, 30)
    assert (decode_mask(rle) == mask).all()


def test_vocabulary_gives_stable_ids() -> None:
    categories = vocabulary_categories(["dog", "cat"], [("dog",), ("cat", "kitty")])
    assert [(one.id, one.name, one.synonyms) for one in categories] == [
        (1, "dog", ()),
        (2, "cat", ("kitty",)),
    ]


def test_the_collector_goes_on_after_a_failure() -> None:
    @uncollected()
    def read() -> None:
        assert not gc.isenabled()
        raise ValueError

    assert gc.isenabled()
    with pytest.raises(ValueError, match=r"^$"):
        read()
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
