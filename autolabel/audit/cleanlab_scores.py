"""cleanlab's scores of labels for object detection, to compare with.

cleanlab (Tkachenko et al. 2023, "ObjectLab", arXiv 2309.00832) is under AGPL-3.0 and no dependency:
it runs as a process of its own, of a Python that has it.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autolabel.audit.audit import AuditedImage
from regionspot.errors import InputError

CLEANLAB = """
import contextlib, json, sys
import numpy as np
from cleanlab.object_detection.rank import compute_swap_box_scores, get_label_quality_scores
given = json.load(sys.stdin)
predictions = []
for image in given["predictions"]:
    classes = np.empty(given["classes"], object)
    for k in range(given["classes"]):
        rows = [row[1:] for row in image if row[0] == k]
        classes[k] = np.array(rows, float).reshape(-1, 5)
    predictions.append(classes)
labels = [
    {
        "bboxes": np.array(image["bboxes"], float).reshape(-1, 4),
        "labels": np.array(image["labels"], int),
    }
    for image in given["labels"]
]
with contextlib.redirect_stdout(sys.stderr):
    swap = compute_swap_box_scores(labels=labels, predictions=predictions)
    quality = get_label_quality_scores(labels, predictions, verbose=False)
print(json.dumps({
    "swap": [float(score) for image in swap for score in image],
    "quality": [float(q) for q, image in zip(quality, labels) for _ in image["labels"]],
}))
"""


def cleanlab_scores(
    python: Path,
    images: Sequence[AuditedImage],
    words: Mapping[int, str],
    model_words: Sequence[str],
) -> dict[str, npt.NDArray[np.float64]]:
    """cleanlab's score of each label for a swapped class, and that of its whole image.

    Args:
        python: an interpreter that has cleanlab.
        images: with labels, and those of the model.
        words: name of each category of the labels by its id.
        model_words: names of the model's categories, which have the ids 1, 2, ...

    Returns:
        By name of the score, of each label in order: the higher, the more likely it is wrong.

    Raises:
        InputError: it failed.
    """
    number = {name: k for k, name in enumerate(sorted({*words.values(), *model_words}))}
    content = {
        "classes": len(number),
        "labels": [
            {
                "bboxes": [each.box for each in labels.annotations],
                "labels": [number[words[each.category_id]] for each in labels.annotations],
            }
            for _, labels, _ in images
        ],
        "predictions": [
            [
                [number[model_words[each.category_id - 1]], *each.box, each.score]
                for each in (predicted.annotations if predicted else ())
            ]
            for _, _, predicted in images
        ],
    }
    ran = subprocess.run(
        [python, "-c", CLEANLAB],
        input=json.dumps(content),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or ["it printed nothing"]
        raise InputError(f"cleanlab failed in {python}: {lines[-1]}")
    found = json.loads(ran.stdout)
    return {f"cleanlab, {name}": 1 - np.array(values, np.float64) for name, values in found.items()}
