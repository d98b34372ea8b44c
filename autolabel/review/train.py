"""`autolabel train --from-review`: the head learns what a person corrected."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from autolabel.review.corrections import Review, find_review, reviewed_images
from integrations.corrections import ReviewedImage
from regionspot.checkpoint import TrainedHead, load_head, save_head
from regionspot.config import ModelConfig, preset
from regionspot.encoders import build_encoder
from regionspot.errors import InputError
from regionspot.files import atomic_write
from regionspot.model import SHIPPED, find_checkpoint
from regionspot.scoring import RegionScorer
from regionspot.weights import cache_folder, sha256_by_preset, sha256_of
from train.data import load_coco
from train.features.cache import Tower, load_features
from train.features.extract import extract
from train.finetune.examples import Source, replayed_lessons, review_features, reviewed_lessons
from train.finetune.finetune import Outcome, train_and_measure
from train.finetune.losses import ReviewSettings

DEFAULT_NAME = "reviewed.safetensors"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class TrainRequest:
    """What a person asks.

    Attributes:
        source: a run folder, or a name of FiftyOne's.
        run: of a dataset: a run folder or key; empty: whichever wrote the field last.
        label_field: of a dataset; empty: the run's, or else `predictions`.
        replay: folders with `instances.json` and `images` that are trained on beside.
        out: the checkpoint to write; None: in the run folder.
        checkpoint: the head to begin from; None: the run's, or else the model's own.
        model: a preset's name; empty: the run's.
        keep: images at most that are looked at whatever was corrected, and of each replayed set.
        cache: folder of features; None: in the user's cache.
        workers: processes for the frozen towers.
    """

    source: str
    run: str = ""
    label_field: str = ""
    replay: tuple[Path, ...] = ()
    out: Path | None = None
    checkpoint: Path | None = None
    model: str = ""
    keep: int = 500
    cache: Path | None = None
    workers: int = 1
    overwrite: bool = False
    settings: ReviewSettings = dataclasses.field(default_factory=ReviewSettings)


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        path: of the checkpoint; its provenance is beside it as `.json`.
        corrections: of each word, by the word.
    """

    path: Path
    corrections: dict[str, int]
    outcome: Outcome


class Reporter(Protocol):
    """Tells a person how far it is."""

    def say(self, line: str) -> None:
        """Something is worth knowing."""

    def at(self, what: str, done: int, total: int) -> None:
        """So much of something is done."""


@dataclass(frozen=True)
class _Start:
    """What training begins with."""

    path: Path
    config: ModelConfig
    trained: TrainedHead
    scorer: RegionScorer
    cache: Path


def train_from_review(request: TrainRequest, reporter: Reporter) -> Trained:
    """Fine-tune a head on corrections, measure it, and write it with where it comes from.

    Raises:
        InputError: nothing to learn from, or something that cannot be used.
    """
    reporter.say("reading the review")
    review = find_review(request.source, request.run, request.label_field)
    out = where_to_write(request, review)
    start = _begin(request, review)
    images = reviewed_images(review, request.keep, request.settings.seed)
    corrections = count_corrections(images)
    if not corrections:
        raise InputError(
            f"{request.source} holds no correction: give labels another word, or draw or move "
            "boxes (`autolabel review`), and train then"
        )
    scorer = start.scorer
    vocabulary = scorer.vocabulary(words_of(review, images))
    looked_at = _Looking(request, start, reporter)
    features, skipped = review_features(
        start.config,
        images,
        start.cache,
        request.workers,
        looked_at.on_shard,
        scorer.encoder.pooler,
    )
    looked_at.say_skipped(skipped)
    images = [image for image in images if image.id in features]
    corrections = count_corrections(images)
    if not corrections:
        raise InputError(f"no corrected image of {request.source} can be read; mend them")
    lessons = reviewed_lessons(images, [features[image.id] for image in images], scorer, vocabulary)
    replays = [looked_at.replay(folder) for folder in request.replay]
    reporter.say(f"{sum(corrections.values())} corrections of {len(corrections)} words")
    outcome = train_and_measure(scorer, lessons, replays, request.settings, reporter.at)
    taught = outcome.taught
    adapter = taught.zero_shot.adapter if taught.zero_shot else None
    trained = dataclasses.replace(start.trained, head=taught.head, adapter=adapter)
    save_head(out, trained, start.config)
    write_provenance(out, request, review, start, corrections, outcome)
    return Trained(out, corrections, outcome)


def where_to_write(request: TrainRequest, review: Review) -> Path:
    """The checkpoint's path.

    Raises:
        InputError: it is no `.safetensors`, is among the shipped ones, or is there already.
    """
    default = (
        review.run / DEFAULT_NAME if review.run else Path(f"{review.target.dataset}-{DEFAULT_NAME}")
    )
    out = request.out or default
    if out.suffix != SUFFIX:
        raise InputError(f"--out must end with {SUFFIX}, got {out}")
    if out.resolve().parent == SHIPPED.resolve():
        raise InputError(f"{out} is where the shipped heads lie; choose another --out")
    if out.exists() and not request.overwrite:
        raise InputError(f"{out} is there already; choose another --out, or say --overwrite")
    return out


def _begin(request: TrainRequest, review: Review) -> _Start:
    options = review.manifest.options if review.manifest else None
    config = preset(request.model or (options.model if options else "mini"))
    ran_with = options.checkpoint if options and options.model == config.name else ""
    path = request.checkpoint or (Path(ran_with) if ran_with else find_checkpoint(config.name))
    encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
    cache = request.cache or cache_folder() / "features"
    trained = load_head(path, config)
    scorer = RegionScorer.of(encoder, trained, config.encoder.templates)
    return _Start(path, config, trained, scorer, cache)


@dataclass(frozen=True)
class _Looking:
    """Runs the frozen towers where their features are not kept yet."""

    request: TrainRequest
    start: _Start
    reporter: Reporter

    def on_shard(self, tower: Tower, done: int, total: int) -> None:
        """Tell how far a tower is."""
        self.reporter.at(f"features of the {tower}", done, total)

    def say_skipped(self, reasons: Sequence[str]) -> None:
        """Tell which images were left out."""
        for reason in reasons:
            self.reporter.say(f"left out: {reason}")

    def replay(self, folder: Path) -> Source:
        """A data set with its own words."""
        config, request = self.start.config, self.request
        images = [image for image in load_coco(folder) if len(image.boxes)]
        names = sorted({name for image in images for name in image.names})
        if not names:
            raise InputError(f"{folder} holds no box; replay a data set with labels")
        skipped = extract(config, images, self.start.cache, request.workers, self.on_shard)
        self.say_skipped(list(skipped.values()))
        scorer = self.start.scorer
        features = load_features(config, images, self.start.cache, scorer.encoder.pooler)
        if not features:
            raise InputError(f"no image of {folder} can be read, the first as {skipped[0]}")
        order = torch.randperm(
            len(features), generator=torch.Generator().manual_seed(request.settings.seed)
        )
        some = [features[row] for row in order[: request.keep].tolist()]
        return replayed_lessons(some, scorer, scorer.vocabulary(names))


def count_corrections(images: Sequence[ReviewedImage]) -> dict[str, int]:
    """How many labels a person gave each word to, by the word."""
    counts = Counter(
        word
        for image in images
        for word, is_new in zip(image.words, image.corrected.tolist(), strict=True)
        if is_new
    )
    return dict(sorted(counts.items()))


def words_of(review: Review, images: Sequence[ReviewedImage]) -> dict[str, list[str]]:
    """The run's words with their synonyms, and after them those that only a person used."""
    words: dict[str, list[str]] = {}
    if review.manifest:
        vocabulary = review.manifest.vocabulary
        words = {
            name: list(strings)
            for name, strings in zip(vocabulary["words"], vocabulary["synonyms"], strict=True)
        }
    used = {word for image in images for word in (*image.words, *image.predicted) if word}
    return words | {word: [word] for word in sorted(used - words.keys())}


def write_provenance(
    out: Path,
    request: TrainRequest,
    review: Review,
    start: _Start,
    corrections: dict[str, int],
    outcome: Outcome,
) -> None:
    """Where a checkpoint comes from, as JSON beside it."""
    content = {
        "head": sha256_of(out),
        "began_from": {"file": str(start.path), "sha256": sha256_of(start.path)},
        "model": start.config.name,
        "weights": sha256_by_preset(start.config.name),
        "dataset": review.target.dataset,
        "label_field": review.target.field,
        "run": str(review.run) if review.run else None,
        "replay": {str(folder): sha256_of(folder / "instances.json") for folder in request.replay},
        "keep": request.keep,
        "settings": dataclasses.asdict(request.settings),
        "corrections": corrections,
        "held_out_images": outcome.held_out,
        "before": dataclasses.asdict(outcome.before),
        "after": dataclasses.asdict(outcome.after),
    }
    with atomic_write(out.with_suffix(".json")) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
