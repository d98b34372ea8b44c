"""YOLO: what lines mean is found from all of them together, or has to be said."""

from pathlib import Path

import pytest
from PIL import Image

from integrations.annotations import Annotation, LabelledSet, ReadOptions
from integrations.formats.registry import format_named, read_labels
from integrations.formats.yolo_lines import TASKS
from regionspot.errors import InputError

TRIANGLE = "0 0.1 0.1 0.5 0.1 0.5 0.6"
SQUARE = "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6"
BOX = "0 0.5 0.5 0.2 0.4"
POSE = "0 0.5 0.5 0.4 0.5 0.35 0.3 0.65 0.3 0.65 0.7 0.35 0.7"


def read(
    folder: Path,
    *files: str,
    task: str | None = None,
    more: str = "",
    format: str = "yolo",
    strict: bool = False,
) -> LabelledSet:
    for sub in ("images", "labels"):
        (folder / sub).mkdir()
    for number, lines in enumerate(files):
        Image.new("1", (100, 80)).save(folder / f"images/{number}.png")
        (folder / f"labels/{number}.txt").write_text(lines)
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: [cat, dog]\n{more}")
    options = ReadOptions(task=task, strict=strict)
    return read_labels(format_named(format), folder, None, options)


def labels(data: LabelledSet) -> list[Annotation]:
    return [each for image in data.images for each in image.annotations]


@pytest.mark.parametrize(
    ("files", "options", "box", "polygon", "score", "track"),
    [
        ((BOX,), {}, (40, 24, 60, 56), None, None, None),
        (
            ("\n 1.0 5e-01 5e-01 2e-01 4e-01 \r\n\n# a cat\n",),
            {},
            (40, 24, 60, 56),
            None,
            None,
            None,
        ),
        ((f"{BOX} 0.75",), {}, (40, 24, 60, 56), None, 0.75, None),
        ((f"{BOX} 1",), {}, (40, 24, 60, 56), None, 1.0, None),
        ((f"{BOX} 12", f"{BOX} 3"), {}, (40, 24, 60, 56), None, None, 12),
        ((f"{BOX} 12",), {"task": "track"}, (40, 24, 60, 56), None, None, 12),
        ((f"{BOX} 0.75 12",), {}, (40, 24, 60, 56), None, 0.75, 12),
        ((f"{BOX} 0.75 12\n{BOX} 0.5",), {}, (40, 24, 60, 56), None, 0.75, 12),
        ((TRIANGLE,), {}, (10, 8, 50, 48), 3, None, None),
        ((f"{SQUARE}\n{TRIANGLE}",), {}, (10, 8, 50, 48), 4, None, None),
        ((f"{SQUARE}\n{BOX}",), {}, (10, 8, 50, 48), 4, None, None),
        ((f"{TRIANGLE} 0.5\n{SQUARE} 0.25",), {}, (10, 8, 50, 48), 3, 0.5, None),
        ((f"{TRIANGLE} 0.5 7\n{SQUARE} 0.25 8",), {}, (10, 8, 50, 48), 3, 0.5, 7),
        ((SQUARE,), {"task": "obb"}, (10, 8, 50, 48), 4, None, None),
        ((SQUARE,), {"task": "segment"}, (10, 8, 50, 48), 4, None, None),
        ((SQUARE,), {"more": "task: obb\n"}, (10, 8, 50, 48), 4, None, None),
        ((f"{SQUARE} 0.5 7",), {"task": "obb"}, (10, 8, 50, 48), 4, 0.5, 7),
        ((POSE,), {"more": "kpt_shape: [4, 2]\n"}, (30, 20, 70, 60), None, None, None),
        ((f"{POSE} 0.5",), {"more": "kpt_shape: [4, 2]\n"}, (30, 20, 70, 60), None, 0.5, None),
        ((f"{POSE}\n{BOX}",), {"more": "kpt_shape: [4, 2]\n"}, (30, 20, 70, 60), None, None, None),
    ],
)
def test_what_a_line_means(
    tmp_path: Path,
    files: tuple[str, ...],
    options: dict[str, str],
    box: tuple[float, ...],
    polygon: int | None,
    score: float | None,
    track: int | None,
) -> None:
    data = read(tmp_path, *files, **options)  # type: ignore[arg-type]
    label = labels(data)[0]
    assert label.box == pytest.approx(box)
    assert (label.score, label.attributes.get("track_id")) == (score, track)
    if polygon is None:
        assert label.mask is None
    else:
        assert label.mask is not None
        assert [len(each) for each in label.mask] == [2 * polygon]  # type: ignore[arg-type]
    assert len(labels(data)) == sum(
        bool(line.split("#")[0].strip()) for each in files for line in each.split("\n")
    )
    assert not data.tally.lines()


def test_keypoints_are_cocos(tmp_path: Path) -> None:
    more = "kpt_shape: [2, 3]\nkpt_names:\n  0: [nose, tail]\n"
    data = read(tmp_path, "0 .5 .5 .5 .5 .4 .5 2 0 0 0\n0 .5 .5 .5 .5 .4 .5 0.9 .5 .5 1", more=more)
    one, other = labels(data)
    assert one.extra["keypoints"] == [40, 40, 2, 0, 0, 0]
    assert one.attributes == {"num_keypoints": 1}
    assert other.extra["keypoints"] == [40, 40, 2, 50, 40, 1]
    assert [each.count for each in data.tally.changed.values()] == [1]
    assert data.categories[0].extra == {"keypoints": ["nose", "tail"]}


@pytest.mark.parametrize("count", [1, 20])
def test_keypoints_without_their_number_are_undecided(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match="can be read as pose or segment; say which with --task"):
        read(tmp_path, "\n".join([POSE] * count))


def test_the_task_is_told_for_keypoints(tmp_path: Path) -> None:
    (label,) = labels(read(tmp_path, f"{POSE}", task="pose"))
    assert label.box == pytest.approx((30, 20, 70, 60))
    assert len(label.extra["keypoints"]) == 12


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (SQUARE, {}, "can be read as obb or segment; say which with --task"),
        ("0 50 40 20 20", {}, "line 1: expected fractions .* got 50; divide pixels"),
        (f"{BOX}\n0 .5 .5 1.02 .1", {}, "line 2: expected fractions"),
        ("0 .5 -.02 .1 .1", {}, "line 1: expected fractions .* got -0.02"),
        ("0 10 10 50 10 50 60", {}, "line 1: expected fractions .* got 10"),
        (f"{BOX} 12", {}, "line 1: expected a score from 0 to 1, got 12"),
        (f"{BOX} 12", {"task": "detect"}, "line 1: expected a score from 0 to 1, got 12"),
        (f"{BOX} 12\n{BOX} 13", {"format": "yolo-scores"}, "expected a score from 0 to 1, got 12"),
        (f"{BOX} 12\n{BOX} 0.5", {}, "line 1: expected a score from 0 to 1, got 12"),
        (f"{BOX} 12\n{BOX} 12", {}, "line 1: expected a score from 0 to 1, got 12"),
        (f"{BOX} -0.5", {}, "line 1: expected a score from 0 to 1, got -0.5"),
        ("0 .5 .5 -.005 .1", {}, "line 1: expected a width and a height"),
        ("0.5 .5 .5 .1 .1", {}, "line 1: the class must be a whole number"),
        ("-1 .5 .5 .1 .1", {}, "line 1: class -1 is not among"),
        ("0 nan .5 .1 .1", {}, "line 1 must be numbers"),
        ("0 inf .5 .1 .1", {}, "line 1 must be numbers"),
        ("0 1e999 .5 .1 .1", {}, "line 1 must be numbers"),
        ("0 1_0 .5 .1 .1", {}, "line 1 must be numbers"),
        ("0,.5,.5,.1,.1", {}, "line 1 must be numbers"),
        ("1e300 .5 .5 .1 .1", {}, "is not among the names"),
        (f"{TRIANGLE}\n{SQUARE}\n0 .1 .1 .5 .1 .5 .6 .7", {}, "line"),
        (BOX, {"more": "kpt_shape: [4, 2]\n", "task": "obb"}, "no line of the task obb"),
        ("0 .5 .5 .1 .1 .5 .5 .5", {"more": "kpt_shape: [9, 2]\n"}, "no line of the task pose"),
        (f"{POSE} 1 1 1", {"more": "kpt_shape: [4, 2]\n"}, "no line of the task pose"),
        (BOX, {"task": "boxes"}, "unknown task 'boxes'; known are detect"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, lines: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, lines, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_is_little_outside_is_clipped_and_counted(tmp_path: Path) -> None:
    data = read(tmp_path, f"0 .05 .5 .3 .4\n0 0.1 0.1 1.005 0.1 0.5 0.6\n{SQUARE}")
    box, polygon, _ = labels(data)
    assert box.box == pytest.approx((0, 24, 20, 56))
    assert polygon.box == pytest.approx((10, 8, 100, 48))
    assert [(key[0], each.count) for key, each in data.tally.changed.items()] == [
        ("box", 1),
        ("coordinates", 1),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_reads_a_set_without_objects(tmp_path: Path, task: str) -> None:
    assert not labels(read(tmp_path, "\n", task=task))
