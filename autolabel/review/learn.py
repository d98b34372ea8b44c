"""`autolabel relabel --learn-from-review`: reviewed labels of a run are examples of their words.

Regions come from the run's shards, so that no image is read. A label whose box a person drew or
moved takes the region that overlaps it most.

Axes: N regions of one image.
"""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from autolabel.review.corrections import find_review, reviewed_images
from autolabel.review.label_regions import nearest_boxes
from autolabel.run.examples import StoredExamples
from autolabel.run.manifest import Manifest, read_complete
from autolabel.run.shards import ImageRegions, read_shards
from integrations.fiftyone.review import ReviewedImage
from integrations.progress import Reporter
from integrations.vocabulary_file import WordList, read_words
from regionspot.errors import InputError
from regionspot.types import Regions

T = TypeVar("T")


def words_to_relabel(
    folder: Path, words: Path | WordList | None, learn: bool, reporter: Reporter
) -> tuple[Path | WordList, StoredExamples | None]:
    """The words of a relabelling, and the reviewed examples where these are asked for.

    Args:
        folder: of a complete run.
        words: a vocabulary file, or its content; None: as `learn_from_review` has it.
        learn: whether reviewed labels are examples.
        reporter: as `learn_from_review` has it.

    Raises:
        InputError: there are neither words nor a review.
    """
    if not learn:
        if words is None:
            raise InputError("say --vocab FILE, or --learn-from-review for the words of the run")
        return words, None
    listed = read_words(words) if isinstance(words, Path) else words
    found, reviewed = learn_from_review(folder, listed, reporter)
    return (found if words is None else words), reviewed


def learn_from_review(
    folder: Path, words: WordList | None, reporter: Reporter
) -> tuple[WordList, StoredExamples]:
    """The words to label with, and the reviewed labels of a run as their examples.

    Args:
        folder: of a complete run whose labels are in FiftyOne.
        words: whose examples are wanted; None: the run's words, and those that the person used.
        reporter: receives how many examples there are, and what is left out.

    Raises:
        InputError: there is no such run, or none of its labels is an example of a word.
    """
    reporter.message("reading the review")
    manifest = read_complete(folder)
    images = reviewed_images(find_review(str(folder), "", ""), keep=0, seed=0)
    used = {word for image in images for word in image.words if word}
    if words is None:
        words = with_words(words_of_run(manifest), sorted(used))
    if unknown := sorted(used - set(words.names)):
        reporter.message(f"left out: reviewed labels of other words ({', '.join(unknown)})")
    stored = _stored(folder, manifest, images, words, reporter)
    if not stored.regions:
        raise InputError(
            f"{folder} holds no reviewed label of a word: give labels another word, draw or mark "
            "them `reviewed` (`autolabel review`), and relabel then"
        )
    counts = ", ".join(f"{word} {count}" for word, count in stored.counts.items())
    reporter.message(f"reviewed examples: {counts}")
    return words, stored


def _stored(
    folder: Path,
    manifest: Manifest,
    images: Iterable[ReviewedImage],
    words: WordList,
    reporter: Reporter,
) -> StoredExamples:
    """The regions of reviewed labels by word, in the order of the words."""
    by_id = {image.id: image for image in images if image.is_touched}
    regions: dict[str, list[Regions]] = defaultdict(list)
    chosen: list[tuple[int, str, list[int]]] = []
    without = 0
    for each in read_shards(folder, manifest.shards):
        if each.skipped or each.image.id not in by_id:
            continue
        rows, missing = _rows_by_word(by_id[each.image.id], each)
        without += missing
        for word in sorted(rows.keys() & set(words.names)):
            chosen.append((each.image.id, word, rows[word]))
            regions[word].append(each.regions.select(rows[word]))
    if without:
        reporter.message(
            f"left out: {without} reviewed labels whose box no region of the run overlaps by half"
        )
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    return StoredExamples({name: regions[name] for name in words.names if name in regions}, digest)


def _rows_by_word(image: ReviewedImage, stored: ImageRegions) -> tuple[dict[str, list[int]], int]:
    """Rows of an image's regions by the word that a person gave, and the labels without one."""
    rows: dict[str, set[int]] = defaultdict(set)
    own = len(image.proposals)
    for row, word in enumerate(image.words[:own]):
        if word:
            rows[word].add(row)
    missing = 0
    drawn = nearest_boxes(image.drawn, stored.proposals.boxes)
    for word, (nearest, _) in zip(image.words[own:], drawn, strict=True):
        if nearest < 0:
            missing += 1
        else:
            rows[word].add(nearest)
    return {word: sorted(found) for word, found in rows.items()}, missing


def words_of_run(manifest: Manifest) -> WordList:
    """The words that a run was made with, as its manifest holds them."""
    vocabulary = manifest.vocabulary
    background = vocabulary.get("background", {})
    names = (*vocabulary["words"], *background)
    groups, thresholds = vocabulary.get("groups"), vocabulary.get("thresholds")
    return WordList(
        names,
        tuple(tuple(each) for each in (*vocabulary["synonyms"], *background.values())),
        examples=tuple(tuple(each) for each in vocabulary.get("examples", ())),
        groups=(*groups, *[""] * len(background)) if groups else (),
        thresholds=(*thresholds, *[None] * len(background)) if thresholds else (),
        background=len(background),
    )


def with_words(words: WordList, more: Iterable[str]) -> WordList:
    """A list with the words that it lacks added, before the background words."""
    new = tuple(word for word in more if word not in words.names)
    place = words.written

    def inserted(values: tuple[T, ...], added: Iterable[T]) -> tuple[T, ...]:
        return (*values[:place], *added, *values[place:])

    def extended(values: tuple[T, ...], value: T) -> tuple[T, ...]:
        return inserted(values, [value] * len(new)) if values else ()

    return dataclasses.replace(
        words,
        names=inserted(words.names, new),
        synonyms=inserted(words.synonyms, [(word,) for word in new]),
        examples=extended(words.examples, ()),
        groups=extended(words.groups, ""),
        thresholds=extended(words.thresholds, None),
    )
