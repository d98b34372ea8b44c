"""What presence rejects: absent words, nonsense, and coarse words, on the regions of a run.

    python -m autolabel.review.presence --run RUN --gt COCO.json --nouns LVIS.json

RUN is a run of COCO's photos, whose stored regions are labelled again at its thresholds. Absent
words are rare nouns of LVIS, of 10 or fewer of its photos, that stand to no class of the ground
truth in WordNet. Each vocabulary is also labelled without the bank of nouns, by the sigmoid of a
word's score alone.
"""

import json
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from autolabel.run.manifest import read_complete
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import ImageRegions, read_shards
from integrations.annotations import LabelledImage, LabelledSet
from integrations.failures import reported
from integrations.formats.coco import read_coco
from regionspot import load_model
from regionspot.boxes import as_boxes, box_iou
from regionspot.names import display_name, name_key
from regionspot.nouns.wordnet import noun_hierarchy
from regionspot.types import Vocabulary

COARSE = ("animal", "vehicle", "food", "furniture", "appliance")
ABSENT = 50  # words of each kind
RARE = "r"  # LVIS's frequency
MATCH = 0.5  # IoU of a label with a ground-truth box
NOT_LETTERS = ("<script>alert(1)</script>", "'; DROP TABLE labels;--", "12345", "../../etc/passwd")


@dataclass(frozen=True)
class PresenceFigures:
    """The labels of one vocabulary.

    Attributes:
        words: which.
        bank: whether presence compares words with the bank of nouns.
        labels: number of labels.
        absent: of these, in percent, those whose word is nowhere.
        right: number that match a ground-truth box of their class by IoU 0.5; of coarse words, of
            their supercategory.
        on_objects: number that match a ground-truth box of any class.
        precision: `right` in percent of `on_objects`; None where there is none.
    """

    words: str
    bank: bool
    labels: int
    absent: float
    right: int
    on_objects: int
    precision: float | None


def presence_figures(
    run: Path, truth: LabelledSet, rare: Sequence[str], seed: int
) -> Iterator[PresenceFigures]:
    """Label the stored regions of a run with several vocabularies.

    Args:
        run: folder of a complete run.
        truth: ground truth of its photos, with supercategories.
        rare: names of absent words to draw from.
        seed: of the draw and of the nonsense.

    Raises:
        InputError: a run that cannot be read.
    """
    manifest = read_complete(run)
    images = list(read_shards(run, manifest.shards))
    model = load_model(manifest.options.model, "cpu", manifest.options.checkpoint or None)
    names = [category.name for category in truth.categories]
    group_of = {category.name: str(category.supercategory) for category in truth.categories}
    generator = random.Random(seed)
    absent = generator.sample(unrelated(rare, names), ABSENT)
    vocabularies = {
        "the classes": names,
        f"and {ABSENT} absent nouns": [*names, *absent],
        f"and {ABSENT} nonsense strings": [*names, *nonsense(generator)],
        "coarse words": list(COARSE),
    }
    for title, words in vocabularies.items():
        embedded = model.vocabulary(words)
        meaning = {name: name for name in names}
        if title == "coarse words":
            meaning = group_of
        for vocabulary in (embedded, replace(embedded, bank=None)):
            labeller = Labeller(model, vocabulary, manifest.options)
            yield _figures(title, vocabulary, labeller, images, truth, meaning)


def unrelated(rare: Sequence[str], names: Sequence[str]) -> list[str]:
    """The rare nouns that are neither a class, nor above or below one in WordNet."""
    hierarchy = noun_hierarchy()
    rows = {hierarchy.rows[key] for name in names if (key := name_key(name)) in hierarchy.rows}
    kept = []
    for noun in sorted(set(rare)):
        relations = hierarchy.relations([noun])
        if not rows & (relations.kinds | relations.others):
            kept.append(noun)
    return kept


def nonsense(generator: random.Random) -> list[str]:
    """Strings that mean nothing, all different."""
    letters = string.ascii_lowercase
    words = dict.fromkeys(NOT_LETTERS)
    while len(words) < ABSENT:
        words["".join(generator.choices(letters, k=generator.randint(4, 10)))] = None
    return list(words)


def _figures(
    title: str,
    vocabulary: Vocabulary,
    labeller: Labeller,
    images: Sequence[ImageRegions],
    truth: LabelledSet,
    meaning: Mapping[str, str],
) -> PresenceFigures:
    """Figures of labels; one is right where its word is the `meaning` of the box's class."""
    boxes_of = {image.file_name: image for image in truth.images}
    class_of = {category.id: category.name for category in truth.categories}
    known = set(meaning.values())
    labels = absent = right = on_objects = 0
    for image, found in labeller.label(images):
        classes = matched_classes(found, boxes_of[image.file_name], class_of)
        for annotation, name in zip(found.annotations, classes, strict=True):
            word = vocabulary.names[annotation.category_id - 1]
            labels += 1
            absent += word not in known
            on_objects += name is not None
            right += name is not None and meaning[name] == word
    return PresenceFigures(
        title,
        vocabulary.bank is not None,
        labels,
        100 * absent / max(1, labels),
        right,
        on_objects,
        100 * right / on_objects if on_objects else None,
    )


def matched_classes(
    found: LabelledImage, truth: LabelledImage, class_of: Mapping[int, str]
) -> list[str | None]:
    """The class of the ground-truth box that each label overlaps most, by `MATCH` or more."""
    objects = [each for each in truth.annotations if not each.is_crowd]
    if not found.annotations or not objects:
        return [None] * len(found.annotations)
    ious = box_iou(
        as_boxes([each.box for each in found.annotations]), as_boxes([o.box for o in objects])
    )  # (labels, objects)
    return [
        class_of[objects[int(row.argmax())].category_id] if row.max() >= MATCH else None
        for row in ious
    ]


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a run of COCO's photos.")],
    gt: Annotated[Path, typer.Option(help="The photos' ground truth, as COCO JSON.")],
    nouns: Annotated[Path, typer.Option(help="Annotations of LVIS, for its rare categories.")],
    seed: Annotated[int, typer.Option(help="Of absent words and nonsense.")] = 0,
) -> None:
    """Labels of absent words, nonsense and coarse words, as JSON, one line a vocabulary."""
    with reported():
        categories = json.loads(nouns.read_text(encoding="utf-8"))["categories"]
        rare = [display_name(each["name"]) for each in categories if each["frequency"] == RARE]
        for figures in presence_figures(run, read_coco(gt), rare, seed):
            typer.echo(json.dumps(asdict(figures)))


if __name__ == "__main__":
    app()
