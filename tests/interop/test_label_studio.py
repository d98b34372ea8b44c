"""Label Studio's own converter reads what is written for it, and tells people's labels apart.

Its package bars the OpenCV that is installed here, so it has an environment of its own, which
`make test-interop` makes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from integrations.annotations import Annotation, Category, LabelledImage
from integrations.formats.registry import format_named

CONVERT = """
import json, sys
from label_studio_sdk.converter.converter import Converter, Format
folder = sys.argv[1]
converter = Converter(open(folder + "/label_config.xml").read(), folder, download_resources=False)
converter.convert(folder + "/tasks.json", folder + "/converted", Format.COCO, is_dir=False)
"""


def test_what_people_drew_is_read_by_the_converter(
    tmp_path: Path, run_there: Callable[..., str]
) -> None:
    boxes = {"person": (10.0, 8.0, 30.0, 24.0), "model": (50.0, 8.0, 70.0, 24.0)}
    labels = (
        Annotation(1, boxes["person"]),
        Annotation(2, boxes["model"], 0.5),
        Annotation(2, boxes["model"], 0.5, attributes={"reviewed": True}),
    )
    images = [LabelledImage(1, "a.png", 100, 80, labels), LabelledImage(2, "b.png", 100, 80)]
    format_named("label-studio").write(tmp_path, [Category(1, "car"), Category(2, "Äpfel")], images)
    (tmp_path / "images").mkdir()
    for image in images:
        Image.new("L", (100, 80)).save(tmp_path / "images" / image.file_name)
    run_there(
        CONVERT,
        str(tmp_path),
        LOCAL_FILES_SERVING_ENABLED="true",
        LOCAL_FILES_DOCUMENT_ROOT=str(tmp_path),
    )
    found = json.loads((tmp_path / "converted/result.json").read_text())
    names = {each["id"]: each["name"] for each in found["categories"]}
    assert [(names[each["category_id"]], each["bbox"]) for each in found["annotations"]] == [
        ("car", pytest.approx([10, 8, 20, 16])),
        ("Äpfel", pytest.approx([50, 8, 20, 16])),
    ]
