"""Distillation of teacher embeddings."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from regionspot.head import RegionHead
from tests.train.factories import (
    CLASSES,
    RecordingReporter,
    image,
    images,
    recipe,
    training_set,
    vocabulary,
)
from train.batch import collate
from train.distillation import with_teacher_embeddings
from train.losses import distillation_loss
from train.metrics import region_scores, top_k
from train.trainer import fit


def heads(count: int) -> list[RegionHead]:
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(RegionHead(recipe().model.head).eval())
    return found


def test_a_region_has_the_mean_of_its_teachers_embeddings() -> None:
    teachers, features = heads(2), images(3)
    reporter = RecordingReporter()
    (data,) = with_teacher_embeddings([training_set(features)], teachers, reporter)
    assert reporter.tasks == {"teacher embeddings": 3}
    assert len(data.features) == 3
    total = sum(teacher.regions([features[2]])[0].embedding for teacher in teachers)
    expected = F.normalize(torch.as_tensor(total), dim=-1)
    whole = data.features[2]
    assert whole.teacher_embedding is not None
    torch.testing.assert_close(whole.teacher_embedding, expected)
    index = {name: row for row, name in enumerate(CLASSES)}
    some = collate([whole, data.features[0]], [torch.tensor([2, 0]), torch.tensor([0])], index)
    assert some.teacher_embedding is not None
    torch.testing.assert_close(some.teacher_embedding[0], whole.teacher_embedding[[2, 0]])
    only = whole.only([1]).teacher_embedding
    assert only is not None
    torch.testing.assert_close(only, whole.teacher_embedding[1:2])


def test_the_loss_is_minimal_at_the_teachers_and_masked_classes_do_not_matter() -> None:
    classes, weight = vocabulary().embedding, torch.tensor([1.0, 2.0])
    teacher = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    mask = torch.tensor([[True, True, False], [True, True, True]])

    def loss(region: torch.Tensor) -> float:
        return distillation_loss(recipe(), region, teacher, classes, mask, weight).item()

    for seed in range(1, 6):
        noise = 0.1 * torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
        assert loss(F.normalize(teacher + noise, dim=-1)) > loss(teacher)
    region, other = teacher.flip(0), classes.clone()
    other[2] = -other[2]
    each = [
        distillation_loss(recipe(), region, teacher, known, mask, alone)
        for alone in torch.eye(2)
        for known in (classes, other)
    ]
    assert each[0] == each[1]
    assert each[2] != each[3]


def test_a_head_follows_its_teachers_where_the_labels_are_wrong() -> None:
    teacher_head = fit(recipe(), [training_set(images())], vocabulary())
    renamed = {"cat": "dog", "dog": "cup", "cup": "cat"}
    wrong = training_set(
        [
            replace(image(CLASSES, seed=i), names=tuple(renamed[name] for name in CLASSES))
            for i in range(24)
        ]
    )
    test = [image(CLASSES, seed=1000 + i) for i in range(8)]

    def accuracy(distill_weight: float) -> float:
        data = with_teacher_embeddings([wrong], [teacher_head])
        head = fit(recipe(distill_weight=distill_weight), data, vocabulary())
        return top_k(region_scores(head, test, vocabulary()), test, vocabulary(), 1).value

    assert accuracy(0.0) < 5
    assert accuracy(0.95) > 90
