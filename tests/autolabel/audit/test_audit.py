"""Labels that are likely wrong, badly placed or missing."""

import csv
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import torch

from autolabel.audit.audit import (
    AUDIT,
    MISSING,
    PLACE,
    VIEW,
    WORD,
    Audit,
    Suspect,
    audit_labels,
    write_audit,
)
from autolabel.audit.page import PAGE, write_page
from autolabel.run.images import ImageRef
from autolabel.run.shards import ImageRegions
from integrations.annotations import Annotation, LabelledImage
from regionspot.types import Proposals, Regions
from tests.autolabel.helpers import Autolabel, FinishedRun

WORDS = {1: "cat", 2: "=dog"}
BOXES = ((0.0, 0.0, 40.0, 40.0), (50.0, 50.0, 90.0, 90.0))
Triple = tuple[ImageRegions, LabelledImage, LabelledImage | None]


def images(count: int = 6) -> list[Triple]:
    """Images of a cat and a dog, whose regions are alike; the model labels both."""
    boxes = np.array(BOXES, np.float32)
    found: list[Triple] = []
    for index in range(1, count + 1):
        embedding = torch.tensor([[1.0, 0.01 * index], [0.01 * index, 1.0]])
        regions = Regions(embedding, (), np.zeros(0, np.float32), None)
        ref = ImageRef(index, f"{index}.jpg", "")
        stored = ImageRegions(ref, 100, 100, Proposals(boxes, np.ones(2, np.float32)), regions)
        labels = tuple(
            Annotation(id, box, 0.9, attributes={"margin": 0.2})
            for id, box in enumerate(BOXES, start=1)
        )
        image = LabelledImage(index, f"{index}.jpg", 100, 100, labels)
        found.append((stored, image, image))
    return found


def with_labels(triple: Triple, *labels: Annotation) -> Triple:
    return triple[0], replace(triple[1], annotations=labels), triple[2]


def test_labels_that_agree_are_not_listed() -> None:
    assert audit_labels(images(), WORDS, list(WORDS.values())).suspects == ()


def test_each_kind_of_error_is_found(tmp_path: Path) -> None:
    data = images()
    cat, dog = data[0][1].annotations
    data[0] = with_labels(data[0], replace(cat, category_id=2), dog)
    data[1] = with_labels(data[1], cat)
    data[2] = with_labels(data[2], replace(cat, box=(0.0, 0.0, 40.0, 26.0)), dog)
    far = replace(cat, box=(0.0, 90.0, 9.0, 99.0))
    data[3] = with_labels(data[3], cat, dog, far)
    audit = audit_labels(data, WORDS, list(WORDS.values()))
    assert [(each.kind, each.file_name) for each in audit.suspects] == [
        (WORD, "1.jpg"),
        (PLACE, "3.jpg"),
        (MISSING, "2.jpg"),
    ]
    wrong, placed, missing = audit.suspects
    assert (wrong.label, wrong.suggestion) == ("=dog", "cat")
    assert abs(placed.score - 0.35) < 1e-5
    assert (missing.label, missing.suggestion, missing.box) == ("", "=dog", BOXES[1])
    assert (audit.images, audit.labels, audit.unmatched) == (6, 12, 1)

    with write_audit(tmp_path, audit).open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (first["kind"], first["label"], first["suggestion"]) == ("word", "'=dog", "cat")


def test_without_neighbours_and_model_a_label_has_no_score() -> None:
    ((stored, image, _),) = images(1)
    assert audit_labels([(stored, image, None)], WORDS, ["cat"]).suspects == ()
    assert audit_labels([], {}, []).suspects == ()


def test_a_page_shows_names_as_text_and_what_cannot_be_read(finished: FinishedRun) -> None:
    suspects = (
        Suspect(WORD, 0.9, "cat.jpg", (9.0, 9.0, 60.0, 60.0), "<b>cat</b>", "dog", 1),
        Suspect(WORD, 0.8, "gone.jpg", (0.0, 0.0, 9.0, 9.0), "cat", "dog", 2),
        Suspect(WORD, 0.7, "cat.jpg", (-9.0, -9.0, 0.0, 0.0), "cat", "dog", 1),
    )
    page = write_page(finished.folder, Audit(suspects, 2, 3, 0))
    html = page.read_text(encoding="utf-8")
    page.unlink()
    assert "&lt;b&gt;cat&lt;/b&gt;" in html
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("the image cannot be read") == 2


def test_a_run_is_audited(
    autolabel_cli: Autolabel, finished: FinishedRun, coarse: Path, tmp_path: Path
) -> None:
    """Of a dataset with several runs, the run that wrote the field."""
    assert (coarse / "run.json").exists()
    result = autolabel_cli("audit", finished.folder)
    path, page = finished.folder / AUDIT, finished.folder / PAGE
    target = finished.manifest.fiftyone
    assert target is not None
    dataset = fo.load_dataset(target.dataset)
    dataset.reload()
    view = f"{VIEW} {target.label_field}"
    try:
        assert result.exit_code == 0, result.output
        assert f"{finished.manifest.counts['labels']} labels of 5 images" in result.output
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        listed = dict.fromkeys(row["image"] for row in rows)
        html = page.read_text(encoding="utf-8")
        assert html.count("data:image/jpeg;base64,") == len(rows)
        assert rows[0]["label"] in html
        again = autolabel_cli("audit", f"fiftyone:{target.dataset}", "--field", target.label_field)
        assert again.exit_code == 0, again.output
        assert len(page.read_text(encoding="utf-8")) == len(html)
        names = [Path(name).name for name in dataset.load_saved_view(view).values("filepath")]
        assert names == list(listed)
    finally:
        dataset.delete_saved_view(view)
        path.unlink(missing_ok=True)
        page.unlink(missing_ok=True)
    missing = autolabel_cli("audit", finished.folder, "--field", "nowhere")
    assert missing.exit_code == 1
    assert "nowhere" in missing.stderr
