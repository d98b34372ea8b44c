"""What a training starts from, and distillation of teacher embeddings."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from regionspot.checkpoint import TrainedHead, load_head, save_head
from regionspot.head import RegionHead
from tests.train.factories import (
    CLASSES,
    RecordingReporter,
    image,
    images,
    recipe,
    small_model,
    training_set,
    vocabulary,
)
from train.batch import collate
from train.metrics import region_scores, top_k
from train.pretrain import fit, initial_head, with_teacher_embeddings


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


def test_a_second_stage_starts_from_the_head_of_the_first(tmp_path: Path) -> None:
    first = fit(recipe(iterations=3), [training_set(images())], vocabulary())
    path = tmp_path / "head.safetensors"
    save_head(path, TrainedHead(first), small_model(), torch.float32)
    started, loaded = (
        head.state_dict()
        for head in (initial_head(recipe(start=str(path))), load_head(path, small_model()).head)
    )
    assert started.keys() == loaded.keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in started.items())
    config = recipe(iterations=3, start=str(path))
    second = fit(config, [training_set(images())], vocabulary())
    assert not torch.equal(second.projector.weight, first.projector.weight)
