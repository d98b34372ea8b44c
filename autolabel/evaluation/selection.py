"""What part of two label sets is evaluated, and whether one stems from the other."""

import dataclasses
from collections.abc import Collection, Iterable

from autolabel.evaluation.pairing import MatchImages, counted, match_classes, match_images
from integrations.annotations import LabelledSet, Tally, class_labels, vocabulary_categories
from integrations.vocabulary_file import WordList
from regionspot.errors import InputError

REVIEWED = "reviewed"  # attribute of a label that a person confirmed


def first_images(
    ground_truth: LabelledSet, predictions: LabelledSet, by: MatchImages, limit: int | None
) -> tuple[LabelledSet, LabelledSet]:
    """The first images of the ground truth, and the predictions without those of the others."""
    images = ground_truth.images
    if limit is None or limit >= len(images):
        return ground_truth, predictions
    others = match_images(images, predictions.images, by).predicted[limit:]
    left_out = {id(each) for each in others}
    kept = tuple(each for each in predictions.images if id(each) not in left_out)
    return (
        dataclasses.replace(ground_truth, images=images[:limit]),
        dataclasses.replace(predictions, images=kept),
    )


def classes_of_words(
    ground_truth: LabelledSet, predictions: LabelledSet, words: WordList, tally: Tally
) -> tuple[LabelledSet, LabelledSet, tuple[str, ...]]:
    """Both sets with the classes that words stand for, as of `labels_of_words`.

    Args:
        ground_truth: whose classes are chosen.
        predictions: keep the classes that match a chosen one.
        words: names and synonyms.
        tally: counts the labels of other classes as left out.

    Raises:
        InputError: no word is a class of the ground truth.
    """
    matched = match_classes(ground_truth.categories, predictions.categories).ids
    ground_truth, unknown = labels_of_words(ground_truth, words, tally)
    chosen = {each.id for each in ground_truth.categories}
    kept = {predicted for predicted, own in matched.items() if own in chosen}
    return ground_truth, _only(predictions, kept, tally, "prediction"), unknown


def labels_of_words(
    ground_truth: LabelledSet, words: WordList, tally: Tally
) -> tuple[LabelledSet, tuple[str, ...]]:
    """The ground truth of the classes that words stand for, and the words that stand for none.

    Words match classes of the ground truth as predicted classes do, by spelling and synonym. All
    images stay.

    Args:
        ground_truth: whose classes are chosen.
        words: names and synonyms.
        tally: counts the labels of other classes as left out.

    Raises:
        InputError: no word is a class of the ground truth.
    """
    asked = match_classes(
        ground_truth.categories, vocabulary_categories(words.names, words.synonyms)
    )
    chosen = set(asked.ids.values())
    if not chosen:
        have = counted("classes", list(class_labels(ground_truth.categories).values()))
        raise InputError(
            f"--vocab: no word is a class of the ground truth, neither name nor synonym; "
            f"it has {have[0] if have else 'no class'}"
        )
    chosen_labels = _only(ground_truth, chosen, tally, "ground-truth label")
    return chosen_labels, asked.unmatched_predicted


def _only(labels: LabelledSet, ids: Collection[int], tally: Tally, kind: str) -> LabelledSet:
    """The set without the categories of other ids, and their labels."""

    def chosen(category_ids: Iterable[int]) -> tuple[int, ...]:
        return tuple(each for each in category_ids if each in ids)

    images = []
    for image in labels.images:
        annotations = tuple(each for each in image.annotations if each.category_id in ids)
        left_out = len(image.annotations) - len(annotations)
        tally.leave_out(kind, "its class is no word of --vocab", image.file_name, left_out)
        images.append(
            dataclasses.replace(
                image,
                annotations=annotations,
                absent=chosen(image.absent),
                unverified=chosen(image.unverified),
            )
        )
    categories = tuple(each for each in labels.categories if each.id in ids)
    return dataclasses.replace(labels, categories=categories, images=tuple(images))


def unreviewed_labels(ground_truth: LabelledSet, predictions: LabelledSet, by: MatchImages) -> int:
    """How many labels of the ground truth a model made, and the predictions have the box of.

    A label that no person reviewed still has the model's score. Where the predictions have the very
    box in the same image, both stem from one run, whatever words it was labelled with since.
    """
    matches = match_images(ground_truth.images, predictions.images, by)
    count = 0
    for image, other in zip(ground_truth.images, matches.predicted, strict=True):
        if other is not None and not image.attributes.get(REVIEWED):
            boxes = {each.box for each in other.annotations}
            count += sum(
                each.score is not None and not each.attributes.get(REVIEWED) and each.box in boxes
                for each in image.annotations
            )
    return count
