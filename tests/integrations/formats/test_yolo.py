"""YOLO: boxes of single objects there and back, polygons as masks, refusals."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.formats.registry import format_named, write_folder
from tests.integrations.formats.factories import labelled_sets
from tests.integrations.formats.helpers import (
    assert_holds,
    assert_refused,
    plain,
    through,
)


@pytest.mark.parametrize("name", ["yolo", "yolo-scores"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=labelled_sets().map(plain))
def test_yolo(name: str, data: LabelledSet) -> None:
    def compare(label: Annotation, expected: Annotation, image: LabelledImage) -> None:
        assert label.score == (expected.score if name == "yolo-scores" else None)

    found = through(name, data)
    assert [each.name for each in found.categories] == [each.name for each in data.categories]
    assert_holds(found, data, lambda each: not each.is_crowd, 0.01, compare)


def test_yolo_polygons_become_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, format_named("yolo"), [Category(1, "cat")], [], None)
    (tmp_path / "images").mkdir()
    Image.new("1", (10, 10)).save(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (annotation,) = format_named("yolo").read(tmp_path, None).images[0].annotations
    assert annotation.box == (1, 1, 5, 6)
    assert annotation.mask == ((1.0, 1.0, 5.0, 1.0, 5.0, 6.0),)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels/a.txt", "7 .5 .5 1 1", "line 1: class 7 is not among"),
        ("labels/a.txt", "\n0 .5 .5 1", "line 2 must be"),
        ("labels/a.txt", "cat .5 .5 1 1", "must be numbers"),
        ("data.yaml", "names: [", "is not YAML"),
        ("data.yaml", "names: !!python/object:a.b {}", "is not YAML"),
        ("data.yaml", "names: [a]\ntrain: ../b\nval: images", "leaves the"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("1", (4, 4)).save(tmp_path / "images/a.png")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    assert_refused(tmp_path, "yolo", file, content, message)
