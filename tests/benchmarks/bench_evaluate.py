"""200,000 labels: reading, matching and evaluating them, beside pycocotools.

Each side runs in a process of its own, so that its peak of memory is its own. There are as many
images as in COCO val 2017: pycocotools goes through every pair of an image and a class, so that its
time would otherwise be spent on pairs without a label.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

IMAGES, LABELS, CLASSES, SIDE = 5_000, 200_000, 80, 640
AGREE = 1e-6
MOST_OF_PYCOCOTOOLS = 0.4  # seconds of a processor

OURS = """
from autolabel.evaluation.metrics import evaluate_coco
from autolabel.evaluation.metrics import summarize
from autolabel.evaluation.matching import pair_images
from integrations.formats.coco import read_coco, read_coco_results
from pathlib import Path
lap("import")
ground_truth = read_coco(Path(gt)); lap("read the ground truth")
found = read_coco_results(Path(pred), ground_truth); lap("read the predictions")
pairs = pair_images(ground_truth, found); lap("pair")
values = summarize(evaluate_coco(pairs, "bbox"), pairs.categories, False); lap("evaluate")
ap = values["AP"]
"""
THEIRS = """
import contextlib, io
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
lap("import")
with contextlib.redirect_stdout(io.StringIO()):
    ground_truth = COCO(gt); lap("read the ground truth")
    found = ground_truth.loadRes(pred); lap("read the predictions")
    evaluation = COCOeval(ground_truth, found, "bbox"); evaluation.evaluate()
    evaluation.accumulate(); evaluation.summarize(); lap("evaluate")
ap = evaluation.stats[0]
"""
FRAME = """
import json, resource, sys, time
gt, pred = sys.argv[1:]
laps, last = {{}}, [time.perf_counter()]
def lap(name):
    now = time.perf_counter()
    laps[name] = round(now - last[0], 2)
    last[0] = now
{body}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"ap": float(ap), "seconds": laps, "megabytes": round(peak),
    "processor": time.process_time()}}))
"""


def write_files(folder: Path) -> None:
    """Ground truth of LABELS boxes, and predictions that are close to nine in ten of them."""
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, SIDE * 0.7, (LABELS, 2)).round(2)
    size = generator.uniform(4, SIDE * 0.3, (LABELS, 2)).round(2)
    classes = generator.integers(1, CLASSES + 1, LABELS)
    images = generator.integers(1, IMAGES + 1, LABELS)
    moved = np.maximum(np.concatenate([corner, size], 1) + generator.normal(0, 3, (LABELS, 4)), 1)
    scores = generator.random(LABELS)
    labels = [
        {
            "id": row + 1,
            "image_id": int(images[row]),
            "category_id": int(classes[row]),
            "bbox": [*corner[row].tolist(), *size[row].tolist()],
            "area": float(size[row].prod()),
            "iscrowd": 0,
        }
        for row in range(LABELS)
    ]
    results = [
        {
            "image_id": label["image_id"],
            "category_id": label["category_id"],
            "bbox": [round(side, 2) for side in moved[row].tolist()],
            "score": round(float(scores[row]), 4),
        }
        for row, label in enumerate(labels)
        if row % 10
    ]
    sizes = {"width": SIDE, "height": SIDE}
    ground_truth = {
        "images": [{"id": n, "file_name": f"{n}.jpg", **sizes} for n in range(1, IMAGES + 1)],
        "annotations": labels,
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, CLASSES + 1)],
    }
    (folder / "gt.json").write_text(json.dumps(ground_truth))
    (folder / "pred.json").write_text(json.dumps(results))


def measured(body: str, folder: Path) -> dict[str, Any]:
    program = FRAME.format(body=body)
    files = [str(folder / "gt.json"), str(folder / "pred.json")]
    command = [sys.executable, "-c", program, *files]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def evaluate_share() -> float:
    """Processor seconds of ours over those of pycocotools, whose AP is the same."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        ours, theirs = measured(OURS, Path(folder)), measured(THEIRS, Path(folder))
    print(f"\n{LABELS} labels of {IMAGES} images, {CLASSES} classes")
    for name, found in (("autolabel", ours), ("pycocotools", theirs)):
        seconds = found["seconds"]
        parts = ", ".join(f"{what} {value:.1f}" for what, value in seconds.items())
        total = sum(seconds.values())
        print(
            f"{name:12} {total:6.1f} s ({parts}), "
            f"{found['processor']:.1f} s of a processor, peak {found['megabytes']} MB"
        )
    assert ours["ap"] == pytest.approx(theirs["ap"], abs=AGREE)
    return ours["processor"] / theirs["processor"]


def test_many_labels_beside_pycocotools() -> None:
    assert evaluate_share() <= MOST_OF_PYCOCOTOOLS
