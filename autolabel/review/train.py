"""`autolabel train --from-review`: fine-tune the head on the corrections of a review."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autolabel.review.corrections import Review, find_review, reviewed_images
from integrations.annotations import Tally
from integrations.fiftyone.review import ReviewedImage
from integrations.progress import Reporter
from regionspot.checkpoint import TrainedHead, load_head, save_head
from regionspot.config import ModelConfig, preset
from regionspot.errors import InputError
from regionspot.files import atomic_write, check_free, free_output
from regionspot.model import SHIPPED, find_checkpoint
from regionspot.scoring import RegionScorer
from regionspot.weights import cache_folder, sha256_by_preset, sha256_of
from train.config import FinetuneConfig
from train.data.coco import load_coco
from train.data.dataset import used_classes
from train.features.extract import FeatureExtractor
from train.finetune.examples import (
    ExampleSet,
    replayed_examples,
    review_features,
    reviewed_examples,
)
from train.finetune.finetune import FinetuneResult, finetune_with_holdout

DEFAULT_NAME = "reviewed.safetensors"
SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """Arguments of `autolabel train --from-review`.

    Attributes:
        source: a run folder, or the name of a FiftyOne dataset.
        run: of a dataset: a run folder or key; empty: the run that wrote the field last.
        label_field: of a dataset; empty: the run's, or else `predictions`.
        replay: folders with `instances.json` and `images` to train on, too.
        out: the checkpoint to write; None: in the run folder.
        checkpoint: the initial head; None: the run's, or else the model's own.
        model: a preset's name; empty: the run's.
        keep: images at most that are sampled from the review, and from each replayed set.
        cache: folder of features; None: in the user's cache.
        run_folder: of the training's state; None: no state is kept.
        workers: processes for the frozen towers.
        limit: number of the first images of the review that are read; None: all.
        overwrite: whether an existing checkpoint is replaced.
        strict: whether anything that would be changed or left out is an error.
        config: settings of the fine-tuning.
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
    run_folder: Path | None = None
    workers: int = 1
    overwrite: bool = False
    limit: int | None = None
    strict: bool = False
    config: FinetuneConfig = dataclasses.field(default_factory=FinetuneConfig)


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned head and its accuracy.

    Attributes:
        path: of the checkpoint; its provenance is beside it as `.json`.
        corrections: number of corrections by word.
        result: the model with its metrics.
        tally: labels and images that are not trained on, of the review and of replayed sets.
    """

    path: Path
    corrections: dict[str, int]
    result: FinetuneResult
    tally: Tally


@dataclass(frozen=True)
class _Initial:
    """The initial head.

    Attributes:
        path: of its checkpoint.
    """

    path: Path
    config: ModelConfig
    trained: TrainedHead


def finetune_on_review(request: FinetuneRequest, reporter: Reporter) -> Finetuned:
    """Fine-tune a head on corrections, evaluate it, and write it with its provenance.

    Raises:
        InputError: no corrections, or something that cannot be used.
    """
    reporter.message("reading the review")
    review = find_review(request.source, request.run, request.label_field)
    out = where_to_write(request, review)
    initial = _initial(request, review)
    tally = Tally(strict=request.strict)
    images = reviewed_images(review, request.keep, request.config.seed, request.limit, tally)
    if not count_corrections(images) and not any(image.is_empty for image in images):
        raise InputError(
            f"{request.source} holds no correction: give labels another word, or draw or move "
            "boxes (`autolabel review`), and train then"
        )
    cache = request.cache or cache_folder() / "features"
    extractor = FeatureExtractor.of(initial.config, cache, request.workers, reporter, tally)
    templates = initial.config.encoder.templates
    scorer = RegionScorer.of(extractor.encoder, initial.trained, templates)
    vocabulary = scorer.vocabulary(words_of(review, images))
    features = review_features(initial.config, images, extractor)
    for image in images:
        if image.id not in features:
            tally.leave_out("image", "it cannot be read", str(image.path))
    images = [image for image in images if image.id in features]
    corrections = count_corrections(images)
    empty = sum(image.is_empty for image in images)
    if not corrections and not empty:
        raise InputError(f"no corrected image of {request.source} can be read; mend them")
    reporter.message(
        f"{sum(corrections.values())} corrections of {len(corrections)} words, "
        f"{empty} images verified to be empty"
    )
    examples = reviewed_examples(images, [features[i.id] for i in images], scorer, vocabulary)
    replays = [
        _replayed(folder, request, initial.config, scorer, extractor) for folder in request.replay
    ]
    result = finetune_with_holdout(
        scorer, examples, replays, request.config, request.run_folder, reporter
    )
    classifier = result.scorer.zero_shot
    adapter = classifier.adapter if classifier else None
    tuned = dataclasses.replace(initial.trained, head=result.scorer.head, adapter=adapter)
    finetuned = Finetuned(out, corrections, result, tally)
    with free_output(out, overwrite=request.overwrite):
        save_head(out, tuned, initial.config)
        write_provenance(finetuned, request, review, initial)
    return finetuned


def where_to_write(request: FinetuneRequest, review: Review) -> Path:
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
    check_free(out, overwrite=request.overwrite)
    return out


def _initial(request: FinetuneRequest, review: Review) -> _Initial:
    options = review.manifest.options if review.manifest else None
    config = preset(request.model or (options.model if options else "mini"))
    ran_with = options.checkpoint if options and options.model == config.name else ""
    path = request.checkpoint or (Path(ran_with) if ran_with else find_checkpoint(config.name))
    return _Initial(path, config, load_head(path, config))


def _replayed(
    folder: Path,
    request: FinetuneRequest,
    config: ModelConfig,
    scorer: RegionScorer,
    extractor: FeatureExtractor,
) -> ExampleSet:
    """A sample of an annotated folder, with its own classes."""
    images = load_coco(folder, tally=extractor.tally)
    names = used_classes(images)
    features = extractor(config, images, str(folder))
    order = torch.randperm(
        len(features), generator=torch.Generator().manual_seed(request.config.seed)
    )
    sampled = [features[row] for row in order[: request.keep].tolist()]
    return replayed_examples(sampled, scorer, scorer.vocabulary(names))


def count_corrections(images: Sequence[ReviewedImage]) -> dict[str, int]:
    """Number of labels that the annotator corrected, by the word they gave."""
    counts = Counter(
        word
        for image in images
        for word, is_new in zip(image.words, image.corrected.tolist(), strict=True)
        if is_new
    )
    return dict(sorted(counts.items()))


def words_of(review: Review, images: Sequence[ReviewedImage]) -> dict[str, list[str]]:
    """The run's words with their synonyms, followed by words that only the annotator used."""
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
    finetuned: Finetuned, request: FinetuneRequest, review: Review, initial: _Initial
) -> None:
    """Write where a checkpoint comes from, as JSON beside it."""
    result = finetuned.result
    content = {
        "head": sha256_of(finetuned.path),
        "began_from": {"file": str(initial.path), "sha256": sha256_of(initial.path)},
        "model": initial.config.name,
        "weights": sha256_by_preset(initial.config.name),
        "dataset": review.target.dataset,
        "label_field": review.target.field,
        "run": str(review.run) if review.run else None,
        "replay": {str(folder): sha256_of(folder / "instances.json") for folder in request.replay},
        "keep": request.keep,
        "settings": dataclasses.asdict(request.config),
        "corrections": finetuned.corrections,
        "held_out_images": result.held_out,
        "before": dataclasses.asdict(result.before),
        "after": dataclasses.asdict(result.after),
    }
    with atomic_write(finetuned.path.with_suffix(".json")) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
