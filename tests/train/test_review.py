"""Fine-tuning on a review, on hundreds of made-up regions in which the word can be read off the
token, and what a person's labels are taken to mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from integrations.corrections import ReviewedImage, reviewed_image
from integrations.fiftyone.review import SeenLabel
from regionspot.errors import InputError
from regionspot.head import HeadConfig, RegionHead
from regionspot.scoring import RegionScorer
from regionspot.types import ScoreCalibration, Vocabulary
from regionspot.zero_shot import FeatureAdapter, ZeroShotClassifier
from tests.regionspot.factories import small_encoder
from train.experiments.simulated_review import Simulation
from train.features.cache import ImageFeatures
from train.finetune.examples import (
    UNKNOWN,
    Lesson,
    Source,
    held,
    replayed_lessons,
    reviewed_lessons,
)
from train.finetune.finetune import by_touch, split, train_and_measure
from train.finetune.losses import ReviewSettings, fine_tune, word_weights
from train.finetune.zero_shot import adapted_to_review
from train.sampler import TrainingSet

KINDS = ("cat", "dog", "cup", "chair", "car", "boat")
NEW = ("kitten", "mug")
OTHERWISE = {"cat": "kitten", "cup": "mug"}
WIDTH, SCALE = 16, 10.0
TAUGHT_ANEW = ReviewSettings(epochs=12, learning_rate=3e-3, hold=0, hold_words=0)
HEAD = HeadConfig(
    map_width=24, text_width=WIDTH, width=32, depth=1, feedforward=32, dropout=0.1, pooled_width=24
)


def words(*names: str) -> Vocabulary:
    generator = torch.Generator().manual_seed(7)
    every, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))
    return Vocabulary(names, every[[(KINDS + NEW).index(name) for name in names]])


def scorer(head: RegionHead, zero_shot: ZeroShotClassifier | None = None) -> RegionScorer:
    return RegionScorer(
        small_encoder(), "name", head, ScoreCalibration.of_encoder(SCALE), zero_shot
    )


def features(kinds: tuple[str, ...], seed: int) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.2 * torch.randn(len(kinds), 256, generator=generator)
    pooled = 0.3 * torch.randn(len(kinds), 24, generator=generator)
    for row, kind in enumerate(kinds):
        tokens[row, KINDS.index(kind)] += 10
        pooled[row, KINDS.index(kind)] += 3
    memory = torch.randn(5, 24, generator=generator)
    return ImageFeatures(kinds, tokens, memory, pooled, torch.zeros(len(kinds), WIDTH))


def world(count: int, seed: int = 0) -> list[ImageFeatures]:
    """Images of four regions each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(KINDS), (count, 4), generator=generator).tolist()
    return [
        features(tuple(KINDS[k] for k in kinds), 1000 * seed + i) for i, kinds in enumerate(drawn)
    ]


@pytest.fixture(scope="module")
def trained() -> RegionHead:
    """A head that knows `KINDS`."""
    torch.manual_seed(0)
    start = RegionHead(HEAD).eval()
    source = replayed_lessons(world(100, seed=1), scorer(start), words(*KINDS))
    return fine_tune(start, [source], SCALE, TAUGHT_ANEW)


def reviewed(images: list[ImageFeatures], touched: int) -> list[ReviewedImage]:
    """A person called some kinds otherwise in the first images."""
    found = []
    for number, image in enumerate(images):
        said = [OTHERWISE.get(k, "") if number < touched else "" for k in image.names]
        boxes = np.tile(np.array([[0, 0, 8, 8]], np.float32), (len(said), 1))
        nothing = np.zeros((0, 4), np.float32)
        found.append(
            ReviewedImage(number, Path("x"), 9, 9, boxes, nothing, tuple(said), image.names)
        )
    return found


def nameless(images: list[ImageFeatures]) -> list[ImageFeatures]:
    return [replace(image, names=("",) * len(image.names)) for image in images]


def review(head: RegionHead, images: list[ImageFeatures], touched: int) -> Source:
    vocabulary = words(*KINDS, *NEW)
    made = reviewed(images, touched)
    return reviewed_lessons(made, nameless(images), scorer(head), vocabulary)


def accuracy(head: RegionHead, images: list[ImageFeatures], corrected: bool) -> float:
    """Percent of regions that get the word a person would give, of the kinds that are corrected
    or of the others."""
    vocabulary = words(*KINDS, *NEW)
    hits = []
    for image, lesson in zip(
        images, replayed_lessons(images, scorer(head), words(*KINDS)).lessons, strict=True
    ):
        best = (lesson.before @ vocabulary.embedding.T).argmax(1).tolist()
        hits += [
            vocabulary.names[k] == OTHERWISE.get(kind, kind)
            for k, kind in zip(best, image.names, strict=True)
            if (kind in OTHERWISE) == corrected
        ]
    assert len(hits) > 200
    return 100 * sum(hits) / len(hits)


def test_corrected_words_are_learnt_and_the_others_do_not_fall_by_a_point(
    trained: RegionHead,
) -> None:
    source, unseen = review(trained, world(60, seed=2), touched=20), world(200, seed=3)
    outcome = train_and_measure(
        scorer(trained), source, (), ReviewSettings(epochs=40, learning_rate=1e-3)
    )
    assert accuracy(trained, unseen, corrected=True) < 20
    assert accuracy(outcome.taught.head, unseen, corrected=True) > 90
    others = accuracy(trained, unseen, corrected=False)
    assert others > 95
    assert accuracy(outcome.taught.head, unseen, corrected=False) >= others - 1

    assert outcome.held_out >= 4
    assert outcome.before.all_corrected.total == outcome.after.all_corrected.total
    assert outcome.after.all_corrected.right > outcome.before.all_corrected.right
    assert set(outcome.after.corrected) == set(NEW)
    kept = outcome.after.left_alone
    assert kept.right >= 0.95 * kept.total > 20


@pytest.fixture(scope="module")
def calls_boats_cars(trained: RegionHead) -> RegionHead:
    """A head that was taught so."""
    images = [
        replace(image, names=tuple("car" if k == "boat" else k for k in image.names))
        for image in world(100, seed=1)
    ]
    return fine_tune(
        trained, [replayed_lessons(images, scorer(trained), words(*KINDS))], SCALE, TAUGHT_ANEW
    )


def boats_told(start: RegionScorer) -> Source:
    """A person says in some images which regions are boats."""
    photos = world(60, seed=2)
    made = [
        replace(
            image,
            words=tuple("boat" if k == "boat" and number < 20 else "" for k in photo.names),
            predicted=tuple("car" if k == "boat" else k for k in photo.names),
        )
        for number, (image, photo) in enumerate(zip(reviewed(photos, 0), photos, strict=True))
    ]
    assert start.zero_shot
    return reviewed_lessons(made, nameless(photos), start, start.zero_shot.extend(words(*KINDS)))


def share_right(tested: RegionScorer, *kinds: str) -> float:
    assert tested.zero_shot
    asked = tested.zero_shot.extend(words(*KINDS))
    lessons = replayed_lessons(world(200, seed=3), tested, asked).lessons
    target, said = (torch.cat([getattr(x, k) for x in lessons]) for k in ("target", "said"))
    chosen = torch.isin(target, torch.tensor([KINDS.index(kind) for kind in kinds]))
    return float((said == target)[chosen].float().mean())


def tower(rows: torch.Tensor) -> ZeroShotClassifier:
    """Its classes are the first kinds, as many as rows; the head was trained on three."""
    classifier = torch.nn.Linear(24, len(rows), bias=False)
    classifier.weight.data = rows
    features = [each.region_features for each in world(20) if each.region_features is not None]
    identity = FeatureAdapter(
        torch.cat(features).mean(0),
        torch.cat([torch.ones(24), torch.full((256,), 0.02)]),
        torch.zeros(24 + 256, 0),
        torch.zeros(0, 24),
    )
    classes = words(*KINDS[: len(rows)]).embedding
    return ZeroShotClassifier(classifier, classes, words(*KINDS[:3]).embedding, identity)


def test_a_new_word_that_is_corrected_is_still_scored_as_new(calls_boats_cars: RegionHead) -> None:
    """The tower has no class of boats. Other new words stay as they are."""
    start = scorer(calls_boats_cars, tower(torch.eye(24)[: len(KINDS) - 1]))
    settings = ReviewSettings(epochs=40, learning_rate=1e-3)
    taught = train_and_measure(start, boats_told(start), (), settings).taught
    assert share_right(start, "boat") < 0.3
    assert share_right(taught, "boat") > 0.8
    others = share_right(start, "chair", "car")
    assert share_right(taught, "chair", "car") >= others - 0.01 > 0.95


def test_the_towers_classifier_is_taught_what_it_mistakes(calls_boats_cars: RegionHead) -> None:
    """It has a class of boats, which it takes for cars, too. The head stays as it is."""
    rows = torch.eye(24)[: len(KINDS)]
    rows[KINDS.index("car"), KINDS.index("boat")] = 1
    rows[KINDS.index("boat"), -1] = 3
    start = scorer(calls_boats_cars, tower(rows))
    review = boats_told(start)
    sources = by_touch(held(review.lessons, review.vocabulary), review)
    settings = ReviewSettings(hold_new_words=10)
    taught = replace(start, zero_shot=adapted_to_review(start, sources, settings))
    assert share_right(start, "boat") < 0.3
    assert share_right(taught, "boat") > 0.8
    for others in (("chair", "car"), KINDS[:3]):
        assert share_right(taught, *others) >= share_right(start, *others) - 0.01 > 0.9


def test_the_towers_classifier_has_nothing_to_learn_of_trained_words(
    calls_boats_cars: RegionHead,
) -> None:
    zero_shot = replace(tower(torch.eye(24)[:3]), seen=words(*KINDS).embedding)
    start = scorer(calls_boats_cars, zero_shot)
    assert adapted_to_review(start, [boats_told(start)], ReviewSettings()) is zero_shot


def test_a_simulated_person_teaches_new_words() -> None:
    """The head is trained on the old names of kinds that a person calls otherwise."""
    torch.manual_seed(0)
    start = RegionHead(HEAD).eval()
    old = replayed_lessons(world(100, seed=1), scorer(start), words(*KINDS))
    head = fine_tune(start, [old], SCALE, TAUGHT_ANEW)

    def called_otherwise(images: list[ImageFeatures]) -> list[ImageFeatures]:
        return [
            replace(image, names=tuple(OTHERWISE.get(k, k) for k in image.names))
            for image in images
        ]

    seen, looked_at = world(40, seed=1), called_otherwise(world(40, seed=2))
    sets = tuple(
        TrainingSet("photos", images, [i.names for i in images], KINDS)
        for images in (seen, looked_at)
    )
    simulation = Simulation(
        scorer(head),
        KINDS,
        words(*KINDS, *NEW),
        (sets[0], sets[1]),
        called_otherwise(world(100, seed=3)),
    )
    effect = simulation.review(2, 10, ReviewSettings(epochs=40, learning_rate=1e-3))
    before, after = effect.before, effect.after
    assert effect.corrections > 40
    assert before["corrected words"].percent < 20
    assert after["corrected words"].percent > 90
    assert after["trained others"].percent >= before["trained others"].percent - 1
    assert sum(after[k].total for k in ("trained others", "new others", "corrected words")) == 400


def test_replayed_words_are_kept(trained: RegionHead) -> None:
    source, replay = review(trained, world(20, seed=2), touched=20), world(40, seed=4)
    start = scorer(trained)
    others = replayed_lessons(replay, start, words(*KINDS))
    outcome = train_and_measure(start, source, [others], ReviewSettings(epochs=5))
    assert outcome.before.replayed.total == outcome.after.replayed.total
    assert outcome.after.replayed.right >= outcome.before.replayed.right - 1


def test_the_same_review_gives_the_same_weights(trained: RegionHead) -> None:
    source = review(trained, world(12, seed=2), touched=4)
    first, second = (
        train_and_measure(scorer(trained), source, (), ReviewSettings()) for _ in range(2)
    )
    assert first.held_out == 0
    for name, tensor in first.taught.head.state_dict().items():
        assert torch.equal(tensor, second.taught.head.state_dict()[name]), name
        assert not tensor.requires_grad


def test_a_loss_that_is_not_finite_is_told_in_one_line(trained: RegionHead) -> None:
    source = review(trained, world(3, seed=2), touched=3)
    source.lessons[1].features.tokens[:] = float("nan")
    with pytest.raises(InputError, match="the loss is nan in step 1"):
        fine_tune(trained, [source], SCALE, ReviewSettings())


def test_a_word_that_is_always_corrected_is_held_less(trained: RegionHead) -> None:
    source = review(trained, world(60, seed=2), touched=20)
    assert all((lesson.hold == 0).all() for lesson in source.lessons)
    lessons = held(source.lessons, source.vocabulary)
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for lesson, image in zip(lessons[20:], world(60, seed=2)[20:], strict=True):
        for kind, hold in zip(image.names, lesson.hold.tolist(), strict=True):
            by_kind[kind].append(hold)
    assert np.median(by_kind["cat"]) < 0.2
    assert np.median(by_kind["dog"]) == 1
    assert all((each.hold[each.target != UNKNOWN] == 0).all() for each in lessons)


def test_images_are_split_alike_and_none_is_in_both(trained: RegionHead) -> None:
    source = review(trained, world(60, seed=2), touched=20)
    training, apart = split(source, ReviewSettings(held_out=0.25))
    assert len(training.lessons) + len(apart.lessons) == 60
    ids = {id(lesson) for lesson in training.lessons}
    assert not ids & {id(lesson) for lesson in apart.lessons}

    def corrected(lessons: tuple[Lesson, ...]) -> int:
        return sum(bool(lesson.corrected.any()) for lesson in lessons)

    assert corrected(apart.lessons) == pytest.approx(corrected(training.lessons) / 3, abs=1)
    touched, others = by_touch(source.lessons, source)
    assert len(touched.lessons) + len(others.lessons) == 60


def test_weights_of_words_without_a_region_are_finite(trained: RegionHead) -> None:
    source = review(trained, world(6, seed=2), touched=0)
    assert torch.isfinite(word_weights(source, 0.5)).all()


PROPOSALS = np.array([[10, 20, 50, 60], [100.125, 20, 150.75, 90], [0, 0, 200, 100]], np.float32)


def label(
    box: tuple[float, ...], word: str, predicted: str = "", tagged: bool = False
) -> SeenLabel:
    x1, y1, x2, y2 = box
    return SeenLabel((x1 / 200, y1 / 100, x2 / 200, y2 / 100), word, predicted, tagged)


@pytest.mark.parametrize(
    ("seen", "words_now", "corrected", "drawn"),
    [
        ([], ("", "", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 60), "cat", "cat")], ("", "", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 60), "dog", "cat")], ("dog", "", ""), [1, 0, 0], 0),
        ([label((100.125, 20, 150.75, 90), "cat", "cat", True)], ("", "cat", ""), [0, 0, 0], 0),
        ([label((10, 20, 50, 64), "cat", "cat")], ("", "", "", "cat"), [0, 0, 0, 1], 1),
        ([label((10, 20, 50, 60), "cat")], ("", "", "", "cat"), [0, 0, 0, 1], 1),
        ([label((10, 20, 10, 60), "cat")], ("", "", ""), [0, 0, 0], 0),
        ([label((-50, 20, 50, 60), "")], ("", "", ""), [0, 0, 0], 0),
    ],
    ids=["none", "alone", "renamed", "tagged", "moved", "drawn", "empty", "wordless"],
)
def test_what_counts_as_a_persons(
    seen: list[SeenLabel], words_now: tuple[str, ...], corrected: list[int], drawn: int
) -> None:
    image = reviewed_image(1, Path("x"), (200, 100), seen, PROPOSALS)
    assert image.words == words_now
    assert image.corrected.tolist() == [bool(each) for each in corrected]
    assert len(image.drawn) == drawn
    assert image.is_touched == any(words_now)


def test_without_a_run_the_labels_boxes_are_what_the_model_saw() -> None:
    seen = [label((10, 20, 50, 60), "dog", "cat"), label((0, 0, 300, 50), "cup")]
    image = reviewed_image(1, Path("x"), (200, 100), seen, None)
    assert image.proposals.tolist() == [[10, 20, 50, 60]]
    assert image.drawn.tolist() == [[0, 0, 200, 50]]
    assert image.words == ("dog", "cup")
    assert image.predicted == ("cat", "")
