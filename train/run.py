"""A training from data sets to a checkpoint: extract, train, calibrate, save."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from regionspot.checkpoint import save_head
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.model import build_encoder
from regionspot.presets import ModelConfig
from regionspot.scoring import Scoring
from regionspot.types import Vocabulary
from regionspot.vocabulary import Words, build_vocabulary
from train.data import AnnotatedImage, load_coco
from train.features import Tower, extract, load_features
from train.fit import fit, resolved
from train.measure import calibrate_presence, region_cosines
from train.monitor import Monitor, Shown, check_tensorboard, chosen_words
from train.processes import Processes, joined_processes
from train.recipes import Recipe, as_json
from train.sampling import Rows, Sampler, TrainingSet, hold_out
from train.state import STATE, fingerprint


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
        sources = [open_source(recipe, *spec, places, processes, console) for spec in parsed]
        if not any(ratio for _, ratio in parsed):
            sources = [replace(s, data=replace(s.data, ratio=len(s.data))) for s in sources]
        halves = [hold_out(s.data, recipe.held_out, recipe.seed) for s in sources]
        training, held_out = [half[0] for half in halves], [half[1] for half in halves]
        sampler = Sampler(training, recipe.seed, recipe.repeat_threshold)
        recipe = resolved(recipe, sampler, processes)
        words = sorted({word for data in training for word in data.words})
        vocabulary = embed_words(recipe.model, words)
        settings = {"recipe": as_json(recipe), "data": described(training)}
        counts = sum(map(len, training)), sum(map(len, held_out))
        console.print(f"{counts[0]} images to train on, {counts[1]} to calibrate on")
        if processes.is_first:
            prepare_run(places, settings)
        processes.wait()
        curves = places.run / "tensorboard" if places.curves and processes.is_first else None
        shown = shown_of(sources[0], held_out[0])
        with Monitor(console, recipe.iterations, held_out, vocabulary, shown, curves) as monitor:
            head = fit(recipe, training, vocabulary, places.run, processes, monitor)
        if processes.is_first:
            scoring = calibrated(recipe, head, held_out, vocabulary)
            dtype = getattr(torch, recipe.saved_as)
            save_head(places.out, head, recipe.model, scoring, words, dtype, settings)
            console.print(f"wrote {places.out} ({places.out.stat().st_size / 1e6:.1f} MB)")


@dataclass(frozen=True)
class Source:
    """A data set with the images behind its features, in the same order."""

    images: Sequence[AnnotatedImage]
    data: TrainingSet


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


def open_source(
    recipe: Recipe,
    spec: str,
    ratio: float,
    places: Places,
    processes: Processes,
    console: Console,
) -> Source:
    """A data set and its features; the first process computes those that the cache lacks.

    Raises:
        InputError: no such data set, or images of it that cannot be read.
    """
    images = load_coco(Path(spec))
    if processes.is_first:
        extract_with_progress(recipe.model, images, places.cache, places.workers, console)
    processes.wait()
    features = load_features(recipe.model, images, places.cache)
    names = [image.names for image in images]
    data = TrainingSet(spec, features, names, tuple(used_words(images)), ratio=ratio or 1.0)
    return Source(images, data)


def shown_of(source: Source, held_out: TrainingSet) -> Shown | None:
    """The first held-out image of a data set, to draw attention over."""
    if not isinstance(held_out.features, Rows) or not len(held_out):
        return None
    image = source.images[held_out.features.rows[0]]
    return Shown(held_out.features[0], image.path, image.boxes)


def described(sets: Sequence[TrainingSet]) -> dict[str, Any]:
    """What was trained on, for the files that a training leaves behind."""
    return {
        "sha256": fingerprint(sets),
        "sets": [
            {
                "name": Path(data.name).name,
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
    places.run.mkdir(parents=True, exist_ok=True)
    (places.run / "recipe.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def calibrated(
    recipe: Recipe, head: RegionHead, held_out: Sequence[TrainingSet], vocabulary: Vocabulary
) -> Scoring:
    """How the head's cosines become scores.

    The focal loss trained a sigmoid of each word itself; after a softmax, one is fitted to the
    first data set's held-out images.
    """
    if recipe.loss == "focal" or not len(held_out[0]):
        return Scoring.of_encoder(recipe.logit_scale)
    words = chosen_words(vocabulary, held_out[0].words)
    found = region_cosines(head, held_out[0].features, words)
    scale, bias = calibrate_presence(found, held_out[0].features, words)
    return Scoring(recipe.logit_scale, scale, bias)


def used_words(images: Sequence[AnnotatedImage]) -> list[str]:
    """The words that a data set uses, in alphabetical order."""
    return sorted({name for image in images for name in image.names})


def embed_words(config: ModelConfig, words: Words) -> Vocabulary:
    """Embed words with the text tower of a configuration."""
    encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
    return build_vocabulary(encoder, words, config.encoder.templates)


def extract_with_progress(
    config: ModelConfig,
    images: list[AnnotatedImage],
    cache: Path,
    workers: int,
    console: Console,
) -> None:
    """Compute the features that the cache lacks, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        tasks = {tower: bar.add_task(tower) for tower in ("localizer", "encoder")}

        def on_shard(tower: Tower, done: int, total: int) -> None:
            bar.update(tasks[tower], completed=done, total=total)

        extract(config, images, cache, workers, on_shard)
