"""A training from data sets to a checkpoint: extract features, train, calibrate, save."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from integrations.annotations import Tally
from integrations.progress import NullReporter, Reporter
from regionspot.checkpoint import TrainedHead, save_head
from regionspot.devices.runtime import TORCH
from regionspot.encoders import VisionLanguageEncoder, build_encoder
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.head import RegionHead
from regionspot.types import IntArray, ScoreCalibration, Vocabulary
from regionspot.vocabulary import build_vocabulary
from train.callbacks import AttentionImage, Monitor
from train.config import Recipe, as_json
from train.data.dataset import AnnotatedImage, Dataset, Subset, merge_label_spaces
from train.data.registry import open_dataset, short_name
from train.distributed import Processes, joined_processes
from train.features.augment import IDENTITY, parse_view
from train.features.cache import FeatureSet, FeatureStore
from train.features.extract import extract_sets
from train.metrics import calibrate_presence, region_scores
from train.pretrain import distilled_sets, fit, resolved
from train.sampler import Sampler, TrainingSet, fingerprint, hold_out
from train.trainer import STATE
from train.zero_shot import fit_encoder_adapter


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where a training reads and writes, and on what it computes.

    Attributes:
        cache: folder of features.
        run: folder of the training's state, its settings and TensorBoard's files.
        out: the checkpoint.
        workers: processes for the frozen towers.
        device: `auto`, `cpu` or `cuda`.
        fresh: whether a state in the run folder is deleted instead of resumed.
        curves: whether TensorBoard's files are written.
        runtime: what computes the frozen towers, as of `load_model`.
    """

    cache: Path
    run: Path
    out: Path
    workers: int
    device: str = "auto"
    fresh: bool = False
    curves: bool = True
    runtime: str = TORCH.name


def open_datasets(
    specs: Sequence[str], limit: int | None, tally: Tally
) -> list[tuple[Dataset, float]]:
    """Data sets and their ratios, as `parse_specs` gives them.

    Args:
        specs: data sets, each `SPEC` or `SPEC=RATIO`.
        limit: number of the first images with a box to read of each; None: all.
        tally: counts what is mended and left out.

    Raises:
        InputError: a data set that cannot be used.
    """
    return [(open_dataset(spec, limit, tally), ratio) for spec, ratio in parse_specs(specs)]


def train(
    recipe: Recipe,
    data: Sequence[tuple[Dataset, float]],
    paths: Paths,
    reporter: Reporter,
    tally: Tally,
) -> None:
    """Train the head of a recipe and write its checkpoint; resumes where it was stopped.

    Args:
        recipe: of the training.
        data: data sets, each with its ratio of the images. Where the ratios are 0, each image is
            shown equally often.
        paths: what is read and written.
        reporter: receives the progress.
        tally: counts the images that are skipped.

    Raises:
        InputError: data, settings or a state that cannot be used.
    """
    with joined_processes(paths.device) as processes:
        reporter = reporter if processes.is_first else NullReporter()
        _, datasets = merge_label_spaces([dataset for dataset, _ in data])
        views = extracted_views(recipe, datasets, paths, processes, reporter, tally)
        encoder = build_encoder(recipe.model.encoder, torch.device("cpu"), torch.float32)
        sources = [
            source_of(dataset, short_name(dataset.name), each, encoder)
            for dataset, each in zip(datasets, views, strict=True)
        ]
        halves = [source.split(recipe.held_out, recipe.seed) for source in sources]
        held_out = [half[1] for half in halves]
        training = [
            replace(view, ratio=ratio / len(half[0]) if ratio else len(view))
            for half, (_, ratio) in zip(halves, data, strict=True)
            for view in half[0]
        ]
        sampler = Sampler(training, recipe.seed, recipe.repeat_threshold)
        recipe = resolved(recipe, sampler, processes)
        classes = sorted({name for view in training for name in view.classes})
        vocabulary = build_vocabulary(encoder, classes, recipe.model.encoder.templates)
        settings = {"recipe": as_json(recipe), "data": described(training)}
        counts = sum(map(len, training)), sum(map(len, held_out))
        reporter.message(f"{counts[0]} images to train on, {counts[1]} to calibrate on")
        if processes.is_first:
            prepare_run(paths, settings)
        processes.barrier()
        curves = paths.run / "tensorboard" if paths.curves and processes.is_first else None
        attention = attention_image(sources[0], held_out[0])
        distilled = distilled_sets(
            recipe, training, vocabulary, paths.run, paths.fresh, processes, reporter
        )
        steps = recipe.iterations
        with Monitor(reporter, steps, held_out, vocabulary, attention, curves) as monitor:
            head = fit(recipe, distilled, vocabulary, paths.run, processes, monitor)
        if processes.is_first:
            trained = TrainedHead(
                head,
                calibrated(recipe, head, held_out[0], vocabulary),
                tuple(classes),
                fit_encoder_adapter(training, vocabulary, encoder),
            )
            dtype = getattr(torch, recipe.saved_as)
            save_head(paths.out, trained, recipe.model, dtype, settings)
            reporter.message(f"wrote {paths.out} ({paths.out.stat().st_size / 1e6:.1f} MB)")


@dataclass(frozen=True)
class Source:
    """A data set with the images behind its features.

    Attributes:
        images: annotated images of the data set.
        data: features of the original images, in their order.
        views: features of the same images in each extra view; a view may lack some images.
        image_of: for `data` and each view, the row in `images` of each entry.
    """

    images: Sequence[AnnotatedImage]
    data: TrainingSet
    views: tuple[TrainingSet, ...]
    image_of: tuple[IntArray, ...]

    def split(self, fraction: float, seed: int) -> tuple[list[TrainingSet], TrainingSet]:
        """Training sets, one a view, and a fraction of the original images held out."""
        training, held_out = hold_out(self.data, fraction, seed)
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
        InputError: no data set, one twice, or a ratio for some only.
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


def extracted_views(
    recipe: Recipe,
    datasets: Sequence[Dataset],
    paths: Paths,
    processes: Processes,
    reporter: Reporter,
    tally: Tally,
) -> list[list[FeatureSet]]:
    """The views of each data set, the original first; the first process extracts their features.

    Raises:
        InputError: a data set of which no image can be read.
    """
    views = [IDENTITY, *map(parse_view, recipe.views)]
    sets = [
        [
            FeatureSet.of(recipe.model, dataset.images, paths.cache, view, paths.runtime)
            for view in views
        ]
        for dataset in datasets
    ]
    if processes.is_first:
        named = {
            f"{dataset.name}, {each.view}": each
            for dataset, of_dataset in zip(datasets, sets, strict=True)
            for each in of_dataset
        }
        extract_sets(named, paths.cache, paths.workers, reporter, tally)
    processes.barrier()
    return sets


def source_of(
    dataset: Dataset, name: str, views: Sequence[FeatureSet], encoder: VisionLanguageEncoder
) -> Source:
    """A data set under a short name, with the features of its views."""
    classes = dataset.classes if dataset.is_limited else None
    stores = [FeatureStore(view, encoder, classes) for view in views]
    original, *others = [
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
    return Source(dataset.images, original, tuple(others), image_of)


def attention_image(source: Source, held_out: TrainingSet) -> AttentionImage | None:
    """The first held-out image of a data set, to draw attention over."""
    if not isinstance(held_out.features, Subset) or not len(held_out):
        return None
    image = source.images[int(source.image_of[0][held_out.features.rows[0]])]
    rows = [row for row, name in enumerate(image.names) if name in held_out.classes]
    return AttentionImage(held_out.features[0], image.path, image.boxes[rows])


def described(sets: Sequence[TrainingSet]) -> dict[str, Any]:
    """What is trained on, for the files that a training writes."""
    return {
        "sha256": fingerprint(sets),
        "sets": [
            {
                "name": data.name,
                "ratio": data.ratio,
                "images": len(data),
                "regions": sum(map(len, data.names)),
                "words": len(data.classes),
            }
            for data in sets
        ],
    }


def prepare_run(paths: Paths, settings: dict[str, Any]) -> None:
    """Make the run folder, with the settings in it, unless there is a state to resume."""
    state = paths.run / STATE
    if paths.fresh:
        state.unlink(missing_ok=True)
    if state.exists():
        return
    with atomic_write(paths.run / "recipe.json") as file:
        file.write(json.dumps(settings, indent=2) + "\n")


def calibrated(
    recipe: Recipe, head: RegionHead, held_out: TrainingSet, vocabulary: Vocabulary
) -> ScoreCalibration:
    """Calibration of the head's scores.

    The focal loss trained a sigmoid of each class itself; after a softmax, one is fitted to the
    first data set's held-out images.
    """
    if recipe.loss == "focal" or not len(held_out):
        return ScoreCalibration.of_encoder(recipe.logit_scale)
    classes = vocabulary.only(held_out.classes)
    scores = region_scores(head, held_out.features, classes, ancestors=held_out.ancestors)
    scale, bias = calibrate_presence(scores, held_out.features, classes)
    return ScoreCalibration(recipe.logit_scale, scale, bias)
