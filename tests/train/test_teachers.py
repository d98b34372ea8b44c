"""Heads that teach another."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from regionspot.head import RegionHead
from tests.train.factories import WORDS, image, images, recipe, training_set, vocabulary
from train.batch import collate
from train.distillation import taught
from train.losses import teacher_loss
from train.metrics import region_scores, top_k
from train.trainer import fit


def heads(count: int) -> list[RegionHead]:
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(RegionHead(recipe().model.head).eval())
    return found


def test_a_region_is_taught_what_the_teachers_say_of_it_on_average() -> None:
    teachers, features = heads(2), images(3)
    counted: list[int] = []
    (data,) = taught([training_set(features)], teachers, lambda: counted.append(1))
    assert len(counted) == len(data.features) == 3
    said = sum(teacher.regions([features[2]])[0].embedding for teacher in teachers)
    expected = F.normalize(torch.as_tensor(said), dim=-1)
    whole = data.features[2]
    assert whole.taught is not None
    torch.testing.assert_close(whole.taught, expected)
    words = {word: row for row, word in enumerate(WORDS)}
    some = collate([whole, data.features[0]], [torch.tensor([2, 0]), torch.tensor([0])], words)
    assert some.taught is not None
    torch.testing.assert_close(some.taught[0], whole.taught[[2, 0]])
    only = whole.only([1]).taught
    assert only is not None
    torch.testing.assert_close(only, whole.taught[1:2])


def test_the_loss_is_least_where_the_teachers_are_and_other_words_do_not_matter() -> None:
    words, weight = vocabulary().embedding, torch.tensor([1.0, 2.0])
    theirs = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    counted = torch.tensor([[True, True, False], [True, True, True]])

    def loss(region: torch.Tensor, words: torch.Tensor = words) -> float:
        return teacher_loss(recipe(), region, theirs, words, counted, weight).item()

    for seed in range(1, 6):
        noise = 0.1 * torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
        assert loss(F.normalize(theirs + noise, dim=-1)) > loss(theirs)
    region, other = theirs.flip(0), words.clone()
    other[2] = -other[2]
    each = [
        teacher_loss(recipe(), region, theirs, known, counted, alone)
        for alone in torch.eye(2)
        for known in (words, other)
    ]
    assert each[0] == each[1]
    assert each[2] != each[3]


def test_a_head_follows_its_teachers_where_the_labels_are_wrong() -> None:
    teacher = fit(recipe(), [training_set(images())], vocabulary())
    otherwise = {"cat": "dog", "dog": "cup", "cup": "cat"}
    wrong = training_set(
        [
            replace(image(WORDS, seed=i), names=tuple(otherwise[name] for name in WORDS))
            for i in range(24)
        ]
    )
    test = [image(WORDS, seed=1000 + i) for i in range(8)]

    def share_right(teaching: float) -> float:
        head = fit(recipe(teaching=teaching), taught([wrong], [teacher]), vocabulary())
        return top_k(region_scores(head.regions, test, vocabulary()), test, vocabulary(), 1).value

    assert share_right(0.0) < 5
    assert share_right(0.95) > 90
