"""Trainings that leave words out, and what the image tower's classifier then makes of them."""

from dataclasses import replace

import pytest
import torch

from regionspot.config import preset
from regionspot.encoders import build_encoder
from regionspot.vocabulary import build_vocabulary
from tests.train.factories import image, recipe, small_model, training_set
from train.experiments.leave_classes_out import Found, Part, leave_out, mean_of, parts_of

WORDS = ("cat", "cup", "dog")
NAMES = (("cat", "cup"), ("dog", "cup"), ("cup", "cat", "dog"))


def test_each_word_but_the_most_common_is_left_out_once() -> None:
    data = training_set([image(NAMES[i % 3], seed=i) for i in range(9)], WORDS)
    assert sorted(parts_of(data, 2, seed=0)) == [("cat",), ("dog",)]
    assert parts_of(data, 1, seed=0) == [("cat", "dog")]
    assert len(parts_of(data, 9, seed=0)) == 2


def test_words_that_were_left_out_are_found_by_the_towers_classes() -> None:
    """Tokens tell the trained words, pooled features look like the classes of all words."""
    model = small_model(pooled_width=1280, text_width=384)
    encoder = build_encoder(preset("mini").encoder, torch.device("cpu"), torch.float32)
    assert encoder.pooler
    embedding = build_vocabulary(encoder, WORDS, model.encoder.templates).embedding
    zero_shot = encoder.pooler.zero_shot(embedding, None)
    rows = dict(zip(WORDS, zero_shot.synthesized_rows(embedding), strict=True))
    data = training_set(
        [
            replace(
                image(NAMES[i % 3], seed=i),
                pooled=torch.stack([rows[name] for name in NAMES[i % 3]]),
                prior=torch.zeros(len(NAMES[i % 3]), 384),
            )
            for i in range(60)
        ],
        WORDS,
    )
    told: list[tuple[str, ...]] = []
    plain = recipe(model=model, epochs=6)
    found = leave_out(
        plain, data, encoder, 2, ["sky", "cup"], lambda words: told.append(tuple(words))
    )
    assert [part.words for part in found] == told
    for part in found:
        assert part.left_out.boxes > 0
        assert part.left_out.top_1 > 90
        assert part.trained.top_1 > 90
    mean = mean_of(found)
    assert set(mean.words) == {"cat", "dog"}
    assert mean.left_out.top_1 == pytest.approx(sum(p.left_out.top_1 for p in found) / 2)


def test_a_part_without_boxes_does_not_count_in_the_mean() -> None:
    nothing, some = Found(0, *[float("nan")] * 3), Found(4, 50.0, 75.0, 1.5)
    parts = [Part(("cat",), nothing, some), Part(("dog",), some, some)]
    assert mean_of(parts) == Part(("cat", "dog"), some, replace(some, boxes=8))
