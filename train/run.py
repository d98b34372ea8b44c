"""A training from data sets to a checkpoint: extract, train, calibrate, save."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from regionspot.checkpoint import TrainedHead, save_head
from regionspot.encoders import RegionPooler, build_encoder
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.head import RegionHead
from regionspot.types import IntArray, ScoreCalibration, Vocabulary
from regionspot.vocabulary import build_vocabulary
from regionspot.zero_shot import FeatureAdapter
from train.callbacks import Monitor, Shown, check_tensorboard
from train.checkpoint import STATE, fingerprint
from train.config import Recipe, as_json
from train.data import AnnotatedImage, Dataset, Subset, merge_label_spaces, open_dataset
from train.distillation import taught
from train.distributed import Processes, joined_processes
from train.features.augment import AS_IT_IS, parse_view
from train.features.cache import FeatureSet, FeatureStore, feature_set
from train.features.progress import extract_sets
from train.metrics import calibrate_presence, region_scores
from train.sampler import Sampler, TrainingSet, hold_out, seed_of
from train.trainer import fit, resolved
from train.zero_shot import fit_adapter


@dataclass(frozen=True)
class Places:
    """Where a training reads and writes, and on what it computes.

    Attributes:
        cache: folder of features.
        run: folder of the state, the settings and TensorBoard's files.
        out: the checkpoint.
        workers: processes for the frozen towers.
        device: `auto`, `cpu` or `cuda`.
        fresh: whether a state in the run folder is left aside.
        curves: whether TensorBoard's files are written.
    """

    cache: Path
    run: Path
    out: Path
    workers: int
    device: str = "auto"
    fresh: bool = False
    curves: bool = True


def train(recipe: Recipe, specs: Sequence[str], places: Places, console: Console) -> None:
    """Train the head of a recipe and write its checkpoint; goes on where it was stopped.

    Args:
        specs: data sets, each `SPEC` or `SPEC=RATIO`. Without ratios, each image is shown equally
            often.

    Raises:
        InputError: data, settings or a state that cannot be used.
    """
    if places.curves:
        check_tensorboard()
    parsed = parse_specs(specs)
    with joined_processes(places.device) as processes:
        console = console if processes.is_first else Console(quiet=True)
        specs = [spec for spec, _ in parsed]
        _, datasets = merge_label_spaces([open_dataset(spec) for spec in specs])
        encoder = build_encoder(recipe.model.encoder, torch.device("cpu"), torch.float32)
        sources = open_sources(
            recipe,
            dict(zip(specs, datasets, strict=True)),
            places,
            processes,
            encoder.pooler,
            console,
        )
        halves = [source.split(recipe.held_out, recipe.seed) for source in sources]
        held_out = [half[1] for half in halves]
        training = [
            replace(data, ratio=ratio / len(half[0]) if ratio else len(data))
            for half, (_, ratio) in zip(halves, parsed, strict=True)
            for data in half[0]
        ]
        sampler = Sampler(training, recipe.seed, recipe.repeat_threshold)
        recipe = resolved(recipe, sampler, processes)
        words = sorted({word for data in training for word in data.words})
        vocabulary = build_vocabulary(encoder, words, recipe.model.encoder.templates)
        settings = {"recipe": as_json(recipe), "data": described(training)}
        counts = sum(map(len, training)), sum(map(len, held_out))
        console.print(f"{counts[0]} images to train on, {counts[1]} to calibrate on")
        if processes.is_first:
            prepare_run(places, settings)
        processes.wait()
        curves = places.run / "tensorboard" if places.curves and processes.is_first else None
        shown = shown_of(sources[0], held_out[0])
        given = taught_sets(recipe, training, vocabulary, places, processes, console)
        with Monitor(console, recipe.iterations, held_out, vocabulary, shown, curves) as monitor:
            head = fit(recipe, given, vocabulary, places.run, processes, monitor)
        if processes.is_first:
            trained = TrainedHead(
                head,
                calibrated(recipe, head, held_out, vocabulary),
                tuple(words),
                adapted(encoder.pooler, training, vocabulary),
            )
            dtype = getattr(torch, recipe.saved_as)
            save_head(places.out, trained, recipe.model, dtype, settings)
            console.print(f"wrote {places.out} ({places.out.stat().st_size / 1e6:.1f} MB)")


def taught_sets(
    recipe: Recipe,
    training: Sequence[TrainingSet],
    vocabulary: Vocabulary,
    places: Places,
    processes: Processes,
    console: Console,
) -> list[TrainingSet]:
    """The data sets, with what the recipe's teachers say of each region; they are trained first.

    Each teacher has a folder of its own in the run folder, and goes on where it was stopped.
    """
    if not recipe.teachers:
        return list(training)
    teachers = []
    sampler = Sampler(training, recipe.seed, recipe.repeat_threshold)
    alike = replace(recipe, teachers=0, epochs=recipe.teacher_epochs, iterations=0)
    alike = resolved(alike, sampler, processes)
    for number in range(1, recipe.teachers + 1):
        other = replace(alike, seed=seed_of(recipe.seed, "teacher", number) % 2**31)
        folder = places.run / f"teacher-{number}"
        if places.fresh and processes.is_first:
            (folder / STATE).unlink(missing_ok=True)
        processes.wait()
        console.print(f"teacher {number} of {recipe.teachers}")
        with Monitor(console, other.iterations, (), vocabulary) as monitor:
            teachers.append(fit(other, training, vocabulary, folder, processes, monitor))
    with Progress(console=console) as bar:
        task = bar.add_task("what the teachers say", total=sum(map(len, training)))
        return taught(training, teachers, lambda: bar.advance(task))


@dataclass(frozen=True)
class Source:
    """A data set with the images behind its features.

    Attributes:
        data: the images as they are, in their order.
        views: the same images in each extra view; a view may lose some.
        image_of: for `data` and each view, which image each entry is of.
    """

    images: Sequence[AnnotatedImage]
    data: TrainingSet
    views: tuple[TrainingSet, ...]
    image_of: tuple[IntArray, ...]

    def split(self, share: float, seed: int) -> tuple[list[TrainingSet], TrainingSet]:
        """What to train on, views and all, and a share of the images, as they are, held out."""
        training, held_out = hold_out(self.data, share, seed)
        assert isinstance(training.features, Subset)
        kept = {int(self.image_of[0][row]) for row in training.features.rows}
        views = [
            view.only([row for row, image in enumerate(images.tolist()) if image in kept])
            for view, images in zip(self.views, self.image_of[1:], strict=True)
        ]
        return [training, *views], held_out


def parse_specs(specs: Sequence[str]) -> list[tuple[str, float]]:
    """Data sets and their ratios, 0 where none is given, out of `SPEC` or `SPEC=RATIO`.

    Raises:
        InputError: none at all, one twice, or a ratio for some only.
    """
    parsed = []
    for spec in specs:
        name, equals, ratio = spec.rpartition("=")
        try:
            parsed.append((name, float(ratio)) if equals else (spec, 0.0))
        except ValueError:
            parsed.append((spec, 0.0))  # the equals sign belongs to the name
    if not parsed:
        raise InputError("give at least one data set with --data")
    names = [name for name, _ in parsed]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{min(twice)} is given twice with --data")
    if any(ratio for _, ratio in parsed) and not all(ratio for _, ratio in parsed):
        raise InputError("give a ratio above 0 to every --data or to none, as in --data photos=2")
    return parsed


def open_sources(
    recipe: Recipe,
    datasets: Mapping[str, Dataset],
    places: Places,
    processes: Processes,
    pooler: RegionPooler | None,
    console: Console,
) -> list[Source]:
    """Data sets with their features; the first process computes those that are missing.

    Args:
        datasets: by their spec.

    Raises:
        InputError: no image of a data set can be read.
    """
    views = [AS_IT_IS, *map(parse_view, recipe.views)]
    sets = {
        (spec, view): feature_set(recipe.model, dataset.images, places.cache, view)
        for spec, dataset in datasets.items()
        for view in views
    }
    if processes.is_first:
        named = {f"{spec}, {view}": each for (spec, view), each in sets.items()}
        extract_sets(named, places.cache, places.workers, console)
    processes.wait()
    return [
        _source(dataset, short_name(spec), [sets[spec, view] for view in views], pooler)
        for spec, dataset in datasets.items()
    ]


def _source(
    dataset: Dataset, name: str, views: Sequence[FeatureSet], pooler: RegionPooler | None
) -> Source:
    words = dataset.classes if dataset.is_limited else None
    stores = [FeatureStore(view, pooler, words) for view in views]
    plain, *others = [
        TrainingSet(
            name if not row else f"{name}, {store.features.view}",
            store,
            [store.names(i) for i in range(len(store))],
            tuple(dataset.classes),
            dataset.ancestors,
        )
        for row, store in enumerate(stores)
    ]
    image_of = tuple(store.image_of for store in stores)
    return Source(dataset.images, plain, tuple(others), image_of)


def short_name(spec: str) -> str:
    """What a data set is called wherever it lies, out of `KIND:PATH,KEY=VALUE`."""
    return Path(spec.rpartition(":")[2].partition(",")[0]).name


def shown_of(source: Source, held_out: TrainingSet) -> Shown | None:
    """The first held-out image of a data set, to draw attention over."""
    if not isinstance(held_out.features, Subset) or not len(held_out):
        return None
    image = source.images[int(source.image_of[0][held_out.features.rows[0]])]
    rows = [row for row, name in enumerate(image.names) if name in held_out.words]
    return Shown(held_out.features[0], image.path, image.boxes[rows])


def described(sets: Sequence[TrainingSet]) -> dict[str, Any]:
    """What was trained on, for the files that a training leaves behind."""
    return {
        "sha256": fingerprint(sets),
        "sets": [
            {
                "name": data.name,
                "ratio": data.ratio,
                "images": len(data),
                "regions": sum(map(len, data.names)),
                "words": len(data.words),
            }
            for data in sets
        ],
    }


def prepare_run(places: Places, settings: dict[str, Any]) -> None:
    """Make the run folder, with the settings in it, unless a state of others lies there."""
    state = places.run / STATE
    if places.fresh:
        state.unlink(missing_ok=True)
    if state.exists():
        return
    with atomic_write(places.run / "recipe.json") as file:
        file.write(json.dumps(settings, indent=2) + "\n")


def calibrated(
    recipe: Recipe, head: RegionHead, held_out: Sequence[TrainingSet], vocabulary: Vocabulary
) -> ScoreCalibration:
    """How the head's scores become probabilities.

    The focal loss trained a sigmoid of each word itself; after a softmax, one is fitted to the
    first data set's held-out images.
    """
    if recipe.loss == "focal" or not len(held_out[0]):
        return ScoreCalibration.of_encoder(recipe.logit_scale)
    words = vocabulary.only(held_out[0].words)
    found = region_scores(head.regions, held_out[0].features, words, held_out[0].broader)
    scale, bias = calibrate_presence(found, held_out[0].features, words)
    return ScoreCalibration(recipe.logit_scale, scale, bias)


def adapted(
    pooler: RegionPooler | None, sets: Sequence[TrainingSet], vocabulary: Vocabulary
) -> FeatureAdapter | None:
    """An adapter of the encoder's own classifier to the regions, where it has one."""
    if pooler is None:
        return None
    return fit_adapter(sets, vocabulary, pooler.zero_shot(vocabulary.embedding, None))


def used_words(images: Sequence[AnnotatedImage]) -> list[str]:
    """The words that a data set uses, in alphabetical order."""
    return sorted({name for image in images for name in image.names})
