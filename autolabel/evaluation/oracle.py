"""What the same boxes could reach with other words: each is given its true one.

Axes: N boxes, G true labels of one image.
"""

import dataclasses
from collections.abc import Sequence

from autolabel.evaluation.pairing import same_images, score_of
from integrations.annotations import Annotation, LabelledSet
from regionspot.boxes import as_boxes, box_iou

MATCHED = 0.5  # IoU


def with_true_words(truth: LabelledSet, predicted: LabelledSet) -> LabelledSet:
    """The predicted boxes with their scores, each with the word of the true box it overlaps most.

    A box that overlaps none by half, or only a crowd, is left out, as a perfect classifier would
    turn it down; one that is there with several words is taken once, with its highest score. What
    is still missing of a perfect figure is what boxes and scores have lost.

    Raises:
        InputError: the two have no image in common.
    """
    found = same_images(truth.images, predicted)
    return LabelledSet(
        truth.categories,
        tuple(
            dataclasses.replace(
                image,
                annotations=_true_words(image.annotations, other.annotations if other else ()),
                absent=(),
                unverified=(),
            )
            for image, other in zip(truth.images, found, strict=True)
        ),
    )


def _true_words(
    truth: Sequence[Annotation], predicted: Sequence[Annotation]
) -> tuple[Annotation, ...]:
    single = [each for each in truth if not each.is_crowd]
    best: dict[tuple[float, ...], Annotation] = {}
    for each in predicted:
        kept = best.get(each.box)
        if not each.is_crowd and (kept is None or score_of(each) > score_of(kept)):
            best[each.box] = each
    if not single or not best:
        return ()
    boxes = list(best.values())
    overlaps = box_iou(
        as_boxes([each.box for each in boxes]), as_boxes([each.box for each in single])
    )
    return tuple(
        dataclasses.replace(each, category_id=single[int(row.argmax())].category_id)
        for each, row in zip(boxes, overlaps, strict=True)
        if row.max() >= MATCHED
    )
