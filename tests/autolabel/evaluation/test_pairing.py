"""Which image and category of the predictions is which of the ground truth."""

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.evaluation.evaluate import evaluate_files, evaluate_sets, upper_bound
from autolabel.evaluation.matching import pair_images
from autolabel.evaluation.metrics import evaluate_coco, summarize
from autolabel.evaluation.pairing import MatchImages, match_classes, match_images
from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from integrations.progress import NullReporter
from regionspot.errors import InputError
from tests.autolabel.evaluation.factories import random_sets
from tests.autolabel.helpers import Autolabel

SIDE = 100


def test_classes_match_by_name_then_by_synonym() -> None:
    ground_truth = [
        Category(5, "baseball_bat"),
        Category(7, "sofa", ("couch", "seat")),
        Category(8, "cup"),
    ]
    ground_truth.append(Category(9, "bench", ("seat",)))
    predicted = [Category(1, "Baseball bat"), Category(2, "couch"), Category(3, "seat")]
    found = match_classes(ground_truth, [*predicted, Category(4, "dragon")])
    assert found.ids == {1: 5, 2: 7}
    assert found.by_spelling == (("Baseball bat", "baseball_bat"),)
    assert found.by_synonym == (("couch", "sofa"),)
    assert found.kept_apart == (("seat", "sofa"), ("seat", "bench"))
    assert found.unmatched_predicted == ("seat", "dragon")
    assert found.unmatched_ground_truth == ("cup", "bench")


def test_what_stands_in_brackets_is_no_part_of_a_name() -> None:
    ground_truth = [Category(1, "bus_(vehicle)", ("autobus",)), Category(2, "mouse_(animal)")]
    ground_truth.append(Category(3, "mouse_(computer)", ("computer_mouse",)))
    predicted = [Category(1, "bus"), Category(2, "mouse"), Category(3, "mouse (computer)")]
    found = match_classes(ground_truth, predicted)
    assert found.ids == {1: 1, 3: 3}
    assert found.unmatched_predicted == ("mouse",)
    with_synonym = Category(4, "mouse", ("computer mouse",))
    assert match_classes(ground_truth, [predicted[0], with_synonym]).ids == {1: 1, 4: 3}
    # Two classes of one set are never one.
    assert match_classes(ground_truth, [*predicted, with_synonym]).ids == {1: 1, 3: 3}


def categories(*names: str, start: int = 1) -> list[Category]:
    return [Category(id, name) for id, name in enumerate(names, start)]


@pytest.mark.parametrize(
    ("ground_truth", "predicted", "expected"),
    [
        ("A a", "a A", {"A": "A", "a": "a"}),
        ("A a", "a", {"a": "a"}),
        ("a", "A a", {"a": "a"}),
        ("a", "A", {"A": "a"}),
        ("type_1 type-1", "type-1 type_1", {"type-1": "type-1", "type_1": "type_1"}),
        ("type_1 type-1", "Type-1", {}),
        ("cup cups", "cups cup", {"cups": "cups", "cup": "cup"}),
        ("cup", "Cups CUP", {}),
        ("cup cups", "Cup dog", {}),
        ("traffic_light", "Traffic-Lights", {"Traffic-Lights": "traffic_light"}),
        ("bolt(M6) bolt(M8)", "bolt", {}),
        ("bolt bolt", "bolt", {}),
    ],
)
def test_two_classes_of_one_set_are_never_one(
    ground_truth: str, predicted: str, expected: dict[str, str]
) -> None:
    ours, theirs = categories(*ground_truth.split(), "end"), categories(*predicted.split(), start=7)
    names = {each.id: each.name for each in (*ours, *theirs)}
    found = match_classes(ours, theirs)
    assert {names[id]: names[other] for id, other in found.ids.items()} == expected
    assert found.by_spelling == tuple((a, b) for a, b in expected.items() if a != b)
    unmatched = [each.name for each in theirs if each.name not in expected]
    assert list(found.unmatched_predicted) == unmatched
    alike = {name for name, _ in found.kept_apart}
    assert alike == set(unmatched) - {"dog"}


def test_equal_names_match_by_their_supercategories() -> None:
    parents = ("fastener", "weather")
    ours = [Category(id, "bolt", supercategory=each) for id, each in enumerate(parents)]
    theirs = [Category(id, "bolt", supercategory=each) for id, each in enumerate(parents[::-1])]
    assert match_classes(ours, theirs).ids == {0: 1, 1: 0}
    found = match_classes(ours, [Category(5, "bolt")])
    assert found.ids == {}
    assert found.kept_apart == (("bolt", "bolt (fastener)"), ("bolt", "bolt (weather)"))
    assert found.unmatched_ground_truth == ("bolt (fastener)", "bolt (weather)")


def test_a_category_that_roboflow_adds_is_no_class_of_its_own() -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    ours = LabelledSet(
        (Category(0, "cells", supercategory="none"), Category(1, "cells", supercategory="cells")),
        (LabelledImage(1, "a.jpg", SIDE, SIDE, (Annotation(1, box),)),),
    )
    theirs = LabelledSet(
        (Category(3, "cells"),), (LabelledImage(1, "a.jpg", SIDE, SIDE, (Annotation(3, box),)),)
    )
    assert pair_images(ours, theirs).classes.ids == {3: 1}
    assert pair_images(theirs, ours).classes.ids == {1: 3}
    (only,) = evaluate_sets("x", ours, theirs, 0, NullReporter()).boxes.classes
    assert (only.name, only.ap.value) == ("cells", pytest.approx(1))


def images(*names: str) -> list[LabelledImage]:
    return [LabelledImage(id, name, SIDE, SIDE) for id, name in enumerate(names, start=1)]


@pytest.mark.parametrize(
    ("ground_truth", "predicted", "by", "expected"),
    [
        ("val/b val/a", "a b", "name", {"val/b": "b", "val/a": "a"}),
        ("val/b val/a", "./val/a val/b", "path", {"val/b": "val/b", "val/a": "./val/a"}),
        ("val/b val/a", "val\\a", "path", {"val/a": "val\\a"}),
        ("val/a val/b", "val/a b", "name", {"val/a": "val/a", "val/b": "b"}),
        ("val/a val/b", "val/a b", "path", {"val/a": "val/a"}),
        ("x/1/a x/2/a", "2/a 1/a", "name", {"x/1/a": "1/a", "x/2/a": "2/a"}),
        ("x/1/a x/2/a", "y/2/a y/1/a", "name", {"x/1/a": "y/1/a", "x/2/a": "y/2/a"}),
        ("1/a 2/a b", "a b", "name", {"b": "b"}),
        ("1/a b", "2/a 3/a b", "name", {"b": "b"}),
        ("1/a 2/a", "1/a a", "name", {"1/a": "1/a"}),
        ("a a b", "a b", "name", {"b": "b"}),
        ("cafe\u0301", "x/caf\u00e9", "name", {"cafe\u0301": "x/caf\u00e9"}),
        ("x y", "p q", "id", {"x": "p", "y": "q"}),
    ],
)
def test_images_match_by_what_is_unique(
    ground_truth: str, predicted: str, by: MatchImages, expected: dict[str, str]
) -> None:
    ours, theirs = images(*ground_truth.split()), images(*predicted.split())
    found = match_images(ours, theirs, by)
    pairs = {
        image.file_name: other.file_name
        for image, other in zip(ours, found.predicted, strict=True)
        if other
    }
    assert pairs == expected
    assert sum(found.counts.values()) == len(pairs)
    assert len(found.without_predictions) == len(ours) - len(pairs)
    assert len(found.without_ground_truth) == len(theirs) - len(pairs)
    assert dict(found.by_name).items() <= {b: a for a, b in pairs.items()}.items()


def test_names_that_are_not_unique_are_counted() -> None:
    found = match_images(images("1/a", "2/a", "b", "c"), images("a", "b", "d"))
    assert found.counts == {"path": 1, "name": 0, "id": 0}
    assert found.without_predictions == ("1/a", "2/a", "c")
    assert found.without_ground_truth == ("a", "d")
    assert found.ambiguous == ("1/a", "2/a", "a")
    by_path = match_images(images("1/a", "b"), images("a", "b"), "path")
    assert (by_path.without_predictions, by_path.ambiguous) == (("1/a",), ())


@pytest.mark.parametrize(
    ("ground_truth", "predicted", "by", "message"),
    [
        ("a", "b", "name", "path or unique file name, such as 'a' and 'b'.*--match-images id"),
        ("1/a 2/a", "a", "name", "'1/a' could be several"),
        ("x/a", "a", "path", "in common by path, such as .*--match-images name"),
        ("", "a", "name", "the ground truth has none"),
    ],
)
def test_no_image_in_common_is_refused(
    ground_truth: str, predicted: str, by: MatchImages, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        match_images(images(*ground_truth.split()), images(*predicted.split()), by)
    other = [dataclasses.replace(each, id=each.id + 9) for each in images("a")]
    with pytest.raises(InputError, match="no image in common by id, such as 1 and 10"):
        match_images(images("a"), other, "id")


def test_nothing_in_common_is_refused() -> None:
    ground_truth, predicted = random_sets(1, images=2)
    other = tuple(
        dataclasses.replace(each, id=each.id + 1000, file_name="x" + each.file_name)
        for each in predicted.images
    )
    with pytest.raises(InputError, match="no image in common"):
        pair_images(ground_truth, LabelledSet(predicted.categories, other))
    with pytest.raises(InputError, match="no class in common"):
        pair_images(ground_truth, LabelledSet((Category(1, "dragon"),), ()))


# Files as people have them, and pycocotools' figures of the same boxes.


def coco(names: Sequence[str], classes: Sequence[str], boxes: Sequence[tuple[int, int]]) -> Any:
    """A COCO file: images and categories numbered from 1, a box for each (image, category).

    A box depends on its image's last part and the class's name alone.
    """
    annotations = []
    for id, (image, category) in enumerate(boxes, start=1):
        name, kind = names[image - 1].rsplit("/", 1)[-1], classes[category - 1]
        left, top = 3 + 7 * sum(name.encode()) % 50, 2 + 11 * sum(kind.encode()) % 45
        box = [left, top, 20 + len(name), 30]
        entry = {"id": id, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
        annotations.append(entry | {"area": box[2] * box[3], "score": 0.5 + id / 50})
    return {
        "images": [
            {"id": id, "file_name": name, "width": SIDE, "height": SIDE}
            for id, name in enumerate(names, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in enumerate(classes, start=1)],
    }


def results_of(content: Any) -> list[Any]:
    keys = ("image_id", "category_id", "bbox", "score")
    return [{key: each[key] for key in keys} for each in content["annotations"]]


def written(folder: Path, **contents: Any) -> list[Path]:
    paths = [folder / f"{name}.json" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_text(json.dumps(content))
    return paths


def pycocotools_ap(ground_truth: Path, results: Path) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_images_that_two_files_number_differently(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    truth = coco(("shots/two.png", "shots/one.png"), ("dog",), ((1, 1), (2, 1)))
    found = coco(("one.png", "two.png"), ("dog",), ((1, 1), (2, 1)))
    gt, pred = written(tmp_path, gt=truth, pred=found)
    command = ("evaluate", "--gt", gt, "--pred", pred, "--bootstrap", 2)
    result = autolabel_cli(*command, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert 'images paired by unique file name: 2 ("two.png" = "shots/two.png", ' in result.output
    figures = json.loads((tmp_path / "out/figures.json").read_text())["results"][0]
    assert figures["boxes"]["AP"]["value"] == 1
    assert figures["images"]["paired"] == {"path": 0, "name": 2, "id": 0}
    page = (tmp_path / "out/index.html").read_text()
    assert "images paired by unique file name: 2" in page
    # By ids, other images' boxes are compared: only on request, and it is said.
    by_id = autolabel_cli(*command, "--out", tmp_path / "ids", "--match-images", "id")
    assert "images paired by id: 2" in by_id.output
    figures = json.loads((tmp_path / "ids/figures.json").read_text())["results"][0]
    assert figures["boxes"]["AP"]["value"] == 0
    by_path = autolabel_cli(*command, "--out", tmp_path / "path", "--match-images", "path")
    assert by_path.exit_code == 1
    assert "no image in common by path" in by_path.stderr


def test_what_was_not_paired_is_said(autolabel_cli: Autolabel, tmp_path: Path) -> None:
    truth = coco(
        ("a.png", "1/b.png", "2/b.png"),
        ("traffic_light", "cup", "Cup"),
        ((1, 1), (1, 2), (2, 1), (3, 3)),
    )
    found = coco(
        ("a.png", "b.png", "c.png"), ("Traffic Light", "cups"), ((1, 1), (1, 2), (2, 1), (3, 1))
    )
    gt, pred = written(tmp_path, gt=truth, pred=found)
    result = autolabel_cli("evaluate", "--gt", gt, "--pred", pred, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = (
        "images paired by path: 1",
        "ground-truth images that the predictions do not list: 2 (1/b.png, 2/b.png)",
        "images of the predictions that are not in the ground truth: 2 (b.png, c.png); "
        "left out with 2 predictions",
        "images not paired, as their file names are not unique: 3 (1/b.png, 2/b.png, b.png)",
        'classes paired by spelling: 1 ("Traffic Light" = "traffic_light")',
        'classes kept apart, though alike: 2 ("cups" and "cup", "cups" and "Cup")',
        "predicted classes that are not in the ground truth: 1 (cups); left out with 1 predictions",
    )
    printed = " ".join(result.output.split())
    for line in lines:
        assert line in printed
    figures = json.loads((tmp_path / "out/figures.json").read_text())["results"][0]
    assert figures["images"]["ambiguous"] == ["1/b.png", "2/b.png", "b.png"]
    assert figures["images"]["predictions_left_out"] == 2
    assert figures["classes"] == {
        "by_spelling": [["Traffic Light", "traffic_light"]],
        "by_synonym": [],
        "kept_apart": [["cups", "cup"], ["cups", "Cup"]],
        "predictions_left_out": 1,
    }


NAMES = ("G", "g", "kind_2", "kind-2", "nut", "nut", "cups", "cup", "valve (big)", "valve (small)")


@pytest.mark.parametrize("perfect", [True, False])
def test_ids_say_what_a_list_of_results_means(tmp_path: Path, perfect: bool) -> None:
    """Also where two images have one name."""
    pairs = [(1 + i % 3, 1 + i) for i in range(len(NAMES))]
    truth = coco(("x.png", "y.png", "y.png"), NAMES, pairs)
    truth["categories"][4]["supercategory"] = "fastener"
    found = results_of(truth)
    if not perfect:
        found[0]["category_id"], found[1]["image_id"] = 2, 3
    gt, results = written(tmp_path, gt=truth, results=found)
    expected = pycocotools_ap(gt, results)
    assert (expected == pytest.approx(1)) == perfect
    for resamples in (0, 2):
        result = evaluate_files(gt, results, resamples, NullReporter())
        assert result.boxes.metrics[0].value == pytest.approx(expected, abs=1e-6)
        assert result.pairs.matches.counts == {"path": 0, "name": 0, "id": 3}
        names = [each.name for each in result.boxes.classes]
        assert {"nut (fastener)", "nut"} <= set(names)
        assert len(set(names)) == len(NAMES)
        assert sum(result.confusions.values()) == len(pairs)
    with pytest.raises(InputError, match=r"a list of results.*--match-images is path"):
        evaluate_files(gt, results, 0, NullReporter(), "path")
    # The same predictions as a file of their own, with names in place of ids.
    copy = {**truth, "images": truth["images"][:2], "annotations": truth["annotations"][:2]}
    copy["categories"] = [{**each, "id": 90 - each["id"]} for each in truth["categories"]]
    copy["annotations"] = [
        {**each, "category_id": 90 - each["category_id"]} for each in copy["annotations"]
    ]
    (own,) = written(tmp_path, own=copy)
    found_classes = evaluate_files(gt, own, 0, NullReporter()).pairs.classes
    assert found_classes.ids == {90 - id: id for id in range(1, len(NAMES) + 1)}


@st.composite
def renamed_sets(draw: st.DrawFn) -> tuple[LabelledSet, LabelledSet, LabelledSet]:
    """Ground truth, predictions, and the latter with other folders, ids and orders."""
    ground_truth, predicted = random_sets(draw(st.integers(0, 40)), images=5, federated=False)
    numbers = draw(st.permutations([each.id for each in predicted.images]))
    folders = draw(st.lists(st.sampled_from(["", "val/", "a/b/"]), min_size=5, max_size=5))
    category_ids = draw(st.permutations([each.id for each in predicted.categories]))
    new_id = dict(zip((each.id for each in predicted.categories), category_ids, strict=True))
    changed = [
        dataclasses.replace(
            each,
            id=number,
            file_name=folder + each.file_name,
            annotations=tuple(
                dataclasses.replace(box, category_id=new_id[box.category_id])
                for box in each.annotations
            ),
        )
        for each, number, folder in zip(predicted.images, numbers, folders, strict=True)
    ]
    kinds = [dataclasses.replace(each, id=new_id[each.id]) for each in predicted.categories]
    return (
        ground_truth,
        predicted,
        LabelledSet(tuple(draw(st.permutations(kinds))), tuple(draw(st.permutations(changed)))),
    )


@settings(deadline=None, max_examples=25)
@given(sets=renamed_sets())
def test_folders_ids_and_order_change_no_figure(
    sets: tuple[LabelledSet, LabelledSet, LabelledSet],
) -> None:
    ground_truth, predicted, changed = sets
    figures = []
    for each in (predicted, changed):
        pairs = pair_images(ground_truth, each)
        found = summarize(evaluate_coco(pairs, "bbox"), pairs.categories, pairs.federated)
        bound = upper_bound(ground_truth, each, 0, NullReporter())
        figures.append([*found.values(), *(metric.value for metric in bound)])
    assert figures[0] == pytest.approx(figures[1], nan_ok=True)


paths = st.lists(
    st.text("ab/", min_size=1, max_size=7).filter(lambda text: not text.startswith("/")),
    min_size=1,
    max_size=6,
)


@given(ours=paths, theirs=paths, ids=st.randoms(use_true_random=False))
def test_an_image_is_paired_with_one_that_it_can_be_alone(
    ours: list[str], theirs: list[str], ids: Any
) -> None:
    """Whatever the ids, and the same pairs from either side."""

    def pairs(first: list[str], second: list[str]) -> set[tuple[int, int]]:
        one, other = images(*first), images(*second)
        numbers = [each.id for each in other]
        ids.shuffle(numbers)
        place = dict(zip(numbers, range(len(other)), strict=True))
        other = [dataclasses.replace(each, id=id) for each, id in zip(other, numbers, strict=True)]
        try:
            found = match_images(one, other).predicted
        except InputError:
            return set()
        return {(row, place[each.id]) for row, each in enumerate(found) if each}

    found = pairs(ours, theirs)
    assert found == {(row, other) for other, row in pairs(theirs, ours)}
    assert len({row for row, _ in found}) == len({other for _, other in found}) == len(found)
    parts = [[tuple(p for p in name.split("/") if p) for name in side] for side in (ours, theirs)]
    for row, other in found:
        own, its = parts[0][row], parts[1][other]
        assert own[-1:] == its[-1:]
        shared = [n for n in range(1, 8) if own[-n:] == its[-n:] or own == its]
        longest = max(shared)
        assert sum(each[-longest:] == own[-longest:] for each in parts[0]) == 1 or own == its
        assert sum(each[-longest:] == its[-longest:] for each in parts[1]) == 1 or own == its


def test_swapped_boxes_are_wrong(tmp_path: Path) -> None:
    """The boxes of two images exchanged: nothing brings them back together."""
    truth = coco(("v/one.png", "v/two.png"), ("dog",), ((1, 1), (2, 1)))
    swapped = coco(("two.png", "one.png"), ("dog",), ((1, 1), (2, 1)))
    for image, name in zip(swapped["images"], ("one.png", "two.png"), strict=True):
        image["file_name"] = name
    gt, pred = written(tmp_path, gt=truth, pred=swapped)
    assert evaluate_files(gt, pred, 0, NullReporter()).boxes.metrics[0].value == 0


def test_equal_names_of_own_categories_stay_apart() -> None:
    """A file compared with itself is right, whatever its classes are called."""
    kinds = tuple(Category(id, name) for id, name in enumerate(NAMES, start=1))
    boxes = [(4.0 * id, 3.0, 4.0 * id + 30, 50.0) for id in range(len(NAMES))]
    labels = tuple(Annotation(id, box) for id, box in enumerate(boxes, start=1))
    data = LabelledSet(kinds, (LabelledImage(1, "a.png", SIDE, SIDE, labels),))
    result = evaluate_sets("x", data, data, 0, NullReporter())
    assert result.boxes.metrics[0].value == pytest.approx(1)
    assert {own for own, _ in result.confusions} == {
        *(name for name in NAMES if name != "nut"),
        "nut (id 5)",
        "nut (id 6)",
    }
