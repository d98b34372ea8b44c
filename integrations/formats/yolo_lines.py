"""What the lines of YOLO label files mean.

A line is a class and, by the task of the whole data set:

    detect   x y width height                      a box: its centre and its sides
    track    x y width height                      with an id of the object after it
    segment  x y x y x y ...                       a polygon; a line of four numbers is a box
    pose     x y width height, K times x y [v]     a box and keypoints; v is 0, 1 or 2
    obb      x y x y x y x y                       an oriented box

All are fractions of the image's sides. Predictions add a score, an id of a track, or both in this
order. The number of columns alone decides nothing: a task is chosen where all lines together can be
read as one task only.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, get_args

from integrations.annotations import Annotation, Attribute, Tally
from regionspot.boxes import Box, relative_cxcywh_to_xyxy, rounded
from regionspot.errors import InputError

Task = Literal["detect", "track", "segment", "pose", "obb"]
TASKS: tuple[Task, ...] = get_args(Task)
TRACK = "track_id"
# Trainers refuse what lies further outside of the image than this.
_TOLERANCE = 0.01
# Less is what rounding to six decimals does.
_ROUNDING = 2e-6
_BOX, _CORNERS, _POINTS = 4, 8, 6
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """The numbers of one line, all of them finite.

    Attributes:
        where: file and line.
        file: number of the file, counted over the data set.
        numbers: with the class first.
    """

    where: str
    file: int
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Meaning:
    """How all lines of a data set are read.

    Attributes:
        task: of the data set.
        keypoints: number of keypoints and of numbers each; (0, 0) where there are none.
        single: what one number after the coordinates is.
    """

    task: Task
    keypoints: tuple[int, int] = (0, 0)
    single: Literal["score", "track"] = "score"

    def coordinates(self, line: Line) -> int:
        """How many numbers after the class are coordinates; -1 where the line cannot be read."""
        count = len(line.numbers) - 1
        if self.task == "segment" and count >= _POINTS:
            if count % 2:
                return count - 1
            tracked = count >= _POINTS + 2 and _is_score_and_id(line.numbers[-2:])
            return count - 2 if tracked and line.numbers[-1] > 1 + _TOLERANCE else count
        exact = {"pose": _BOX + self.keypoints[0] * self.keypoints[1], "obb": _CORNERS}
        wanted = exact.get(self.task, _BOX)
        if count - wanted in (0, 1, 2):
            return wanted
        return _BOX if self.task == "pose" and count - _BOX in (0, 1, 2) else -1

    def rest(self, line: Line) -> tuple[float, ...]:
        """The numbers after the coordinates."""
        return line.numbers[1 + self.coordinates(line) :]


def parse_lines(text: str, path: str, file: int) -> list[Line]:
    """The lines of a label file; empty ones and comments are passed over.

    Raises:
        InputError: something is no finite number, or there are too few of them.
    """
    lines = []
    for number, raw in enumerate(text.split("\n"), start=1):
        fields = raw.split("#", 1)[0].split()
        if not fields:
            continue
        where = f"{path}: line {number}"
        try:
            numbers = tuple(map(_number, fields))
        except ValueError as error:
            raise InputError(
                f"{where} must be numbers with blanks between them, got {raw.strip()[:80]!r}"
            ) from error
        if len(numbers) <= _BOX:
            raise InputError(
                f"{where} must be `class x y width height`, got {len(numbers)} numbers"
            )
        lines.append(Line(where, file, numbers))
    return lines


def _number(text: str) -> float:
    value = float(text)
    if "_" in text or not math.isfinite(value):
        raise ValueError(text)
    return value


def find_meaning(
    lines: Sequence[Line],
    task: str | None,
    stated: str,
    keypoints: tuple[int, int] | None,
    scores: bool,
    where: str,
) -> Meaning:
    """How to read the lines of a data set.

    Args:
        lines: of all its files.
        task: as the user says; None: as the data set says, or all lines together.
        stated: the task that the data file states; empty where it does not.
        keypoints: as the data file states; None: not at all.
        scores: whether a number after the coordinates has to be a score.
        where: the data file, for messages.

    Raises:
        InputError: the lines can be read in several ways, or there is no such task.
    """
    if task is not None and task not in TASKS:
        raise InputError(f"unknown task {task!r}; known are {', '.join(TASKS)}")
    # A detector is trained on polygons too, as boxes.
    is_known = stated in TASKS and stated != "detect"
    known = task or (stated if is_known else "") or ("pose" if keypoints else "")
    if not lines:
        return Meaning("detect")
    if known == "pose":
        keypoints = keypoints or _only_shape(lines, where)
    candidates = [
        Meaning(each, shape)
        for each in TASKS
        if each == known or (not known and each != "track")
        for shape in ([keypoints or (0, 0)] if known or each != "pose" else _shapes(lines))
    ]
    if not known:
        candidates = _possible(candidates, lines, where)
        names = sorted({each.task for each in candidates})
        if len(names) > 1:
            raise InputError(
                f"{where}: the lines can be read as {' or '.join(names)}; say which with --task, "
                f"first: {lines[0].where}"
            )
    meaning = candidates[0]
    if not _fits_columns(meaning, lines):
        _refuse_columns(meaning, lines, where)
    if known == "track":
        return Meaning("track", single="track")
    single = "score" if scores or task == "detect" else _single(meaning, lines)
    return Meaning(meaning.task, meaning.keypoints, single)


def _possible(candidates: Sequence[Meaning], lines: Sequence[Line], where: str) -> list[Meaning]:
    """The meanings that the numbers of columns allow, and of those the ones that the values allow.

    Where the values allow none, the first one is left, which then refuses the line that is wrong.
    """
    shaped = [each for each in candidates if _fits_columns(each, lines)]
    fitting = [each for each in shaped if all(_fits_values(each, line) for line in lines)]
    if not shaped:
        first = {len(line.numbers): line for line in reversed(lines)}
        places = ", ".join(f"{count} in {first[count].where}" for count in sorted(first)[:3])
        raise InputError(f"{where}: lines of so many numbers are of no one task: {places}")
    return fitting or shaped[:1] or list(candidates[:1])


def _fits_columns(meaning: Meaning, lines: Sequence[Line]) -> bool:
    if any(meaning.coordinates(line) < 0 for line in lines):
        return False
    if meaning.task != "segment":
        return True
    rests = {len(meaning.rest(each)) for each in lines}
    # Without a number after them in one line and with one in the next: a coordinate is missing.
    return not {0, 1} <= rests and any(len(each.numbers) > _POINTS for each in lines)


def _refuse_columns(meaning: Meaning, lines: Sequence[Line], where: str) -> NoReturn:
    for line in lines:
        if meaning.coordinates(line) < 0:
            raise InputError(
                f"{line.where}: {len(line.numbers)} numbers are no line of the task {meaning.task}"
            )
    counts = Counter(len(meaning.rest(line)) % 2 for line in lines)
    rare = min(counts, key=lambda each: counts[each])
    line = next(each for each in lines if len(meaning.rest(each)) % 2 == rare)
    raise InputError(
        f"{line.where}: {len(line.numbers)} numbers, where other lines of {where} are polygons "
        "with a coordinate more or less; mend the line, or say what the lines are with --task"
    )


def _fits_values(meaning: Meaning, line: Line) -> bool:
    count, rest = meaning.coordinates(line), meaning.rest(line)
    values = line.numbers[1 : 1 + count]
    if len(rest) == 2 and not _is_score_and_id(rest):
        return False
    if len(rest) == 1 and not (rest[0] <= 1 or rest[0].is_integer()):
        return False
    if meaning.task == "pose":
        return _fits_pose(values, meaning.keypoints[1])
    return all(-_TOLERANCE <= each <= 1 + _TOLERANCE for each in values)


def _fits_pose(values: Sequence[float], each: int) -> bool:
    """Whether keypoints lie in their box, and the box in the image."""
    left, top, right, bottom = relative_cxcywh_to_xyxy((*values[:4],), 1, 1)  # type: ignore[arg-type]
    if min(left, top) < -_TOLERANCE or max(right, bottom) > 1 + _TOLERANCE:
        return False
    for start in range(_BOX, len(values), each):
        x, y = values[start : start + 2]
        inside = (
            left - _TOLERANCE <= x <= right + _TOLERANCE
            and top - _TOLERANCE <= y <= bottom + _TOLERANCE
        )
        if not inside and (x or y):
            return False
        if each == 3 and not (0 <= values[start + 2] <= 1 or values[start + 2] == 2):
            return False
    return True


def _shapes(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Each number of keypoints, and of numbers each, that all lines together allow."""
    counts = {len(line.numbers) - 1 - _BOX for line in lines}
    if len(counts) != 1:
        return []
    (count,) = counts
    return [
        ((count - rest) // each, each)
        for each in (3, 2)
        for rest in (0, 1, 2)
        if count > rest and (count - rest) % each == 0
    ]


def _only_shape(lines: Sequence[Line], where: str) -> tuple[int, int]:
    whole = [shape for shape in _shapes(lines) if shape[0] * shape[1] == _extra_columns(lines)]
    shapes = [
        shape
        for shape in whole
        if all(_fits_values(Meaning("pose", shape), line) for line in lines)
    ]
    if len(shapes) != 1:
        raise InputError(
            f"{where}: how many keypoints a line has is not certain; write `kpt_shape: [K, 2]` or "
            "`kpt_shape: [K, 3]` into the data.yaml"
        )
    return shapes[0]


def _extra_columns(lines: Sequence[Line]) -> int:
    return len(lines[0].numbers) - 1 - _BOX


def _single(meaning: Meaning, lines: Sequence[Line]) -> Literal["score", "track"]:
    """Whether one number after the coordinates is a score or the id of a track, in all lines."""
    with_one = [(each, meaning.rest(each)[0]) for each in lines if len(meaning.rest(each)) == 1]
    above = [each for each, value in with_one if value > 1]
    if not above:
        return "score"
    counts = Counter((each.file, value) for each, value in with_one)
    are_ids = all(value.is_integer() and value >= 0 for _, value in with_one)
    if not are_ids or max(counts.values()) > 1:
        raise InputError(
            f"{above[0].where}: expected a score from 0 to 1, got {meaning.rest(above[0])[0]:g}; "
            "ids of tracks would be whole in all lines, each once in its file"
        )
    if len(with_one) == 1:
        raise InputError(
            f"{above[0].where}: expected a score from 0 to 1, got {meaning.rest(above[0])[0]:g}; "
            "say --task track if it is the id of a track"
        )
    return "track"


def _is_score_and_id(rest: Sequence[float]) -> bool:
    score, track = rest
    return 0 <= score <= 1 and track >= 0 and track.is_integer()


def as_annotation(
    line: Line, meaning: Meaning, size: tuple[int, int], classes: int, tally: Tally
) -> Annotation:
    """The annotation of a line.

    Args:
        line: of a label file.
        meaning: of all lines.
        size: width and height of the image, in pixels.
        classes: number of the classes.
        tally: counts what is clipped.

    Raises:
        InputError: the line does not fit the task, or a number is out of its range.
    """
    count = meaning.coordinates(line)
    category = line.numbers[0]
    if not category.is_integer():
        raise InputError(f"{line.where}: the class must be a whole number, got {category:g}")
    if not 0 <= category < classes:
        raise InputError(f"{line.where}: class {int(category)} is not among the names")
    values = line.numbers[1 : 1 + count]
    if meaning.task == "obb" or (meaning.task == "segment" and count >= _POINTS):
        points = _points(line, values, size, tally)
        score, attributes = _score_and_track(line, meaning)
        box = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
        return Annotation(int(category) + 1, box, score, (points,), attributes=attributes)
    box = _box(line, values[:_BOX], size, tally)
    score, attributes = _score_and_track(line, meaning)
    if count == _BOX:
        return Annotation(int(category) + 1, box, score, attributes=attributes)
    keypoints = _keypoints(line, values[_BOX:], meaning.keypoints[1], size, tally)
    attributes["num_keypoints"] = sum(each > 0 for each in keypoints[2::3])
    extra = {"keypoints": keypoints}
    return Annotation(int(category) + 1, box, score, attributes=attributes, extra=extra)


def _score_and_track(line: Line, meaning: Meaning) -> tuple[float | None, dict[str, Attribute]]:
    rest = meaning.rest(line)
    score = rest[0] if len(rest) == 2 or (rest and meaning.single == "score") else None
    track = rest[-1] if len(rest) == 2 or (rest and meaning.single == "track") else None
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"{line.where}: expected a score from 0 to 1, got {score:g}")
    if track is None:
        return score, {}
    if track < 0 or not track.is_integer():
        raise InputError(f"{line.where}: expected a whole number as id of a track, got {track:g}")
    return score, {TRACK: int(track)}


def _fractions(line: Line, values: Sequence[float], tally: Tally) -> list[float]:
    """Coordinates, clipped to the image where they are as little outside as trainers allow."""
    for value in values:
        if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
            mend = "; divide pixels by the image's width and height" if value > 1 else ""
            raise InputError(
                f"{line.where}: expected fractions of the image's sides from 0 to 1, "
                f"got {value:g}{mend}"
            )
    clipped = [min(max(value, 0.0), 1.0) for value in values]
    if any(abs(a - b) > _ROUNDING for a, b in zip(values, clipped, strict=True)):
        tally.change("coordinates", "they lie outside of the image and are clipped", line.where)
    return clipped


def _box(line: Line, values: Sequence[float], size: tuple[int, int], tally: Tally) -> Box:
    _fractions(line, values, Tally())
    x, y, width, height = values
    if width < 0 or height < 0:
        raise InputError(f"{line.where}: expected a width and a height from 0 to 1, got {values}")
    corners = relative_cxcywh_to_xyxy((x, y, width, height), 1, 1)
    left, top, right, bottom = (min(max(each, 0.0), 1.0) for each in corners)
    if any(
        abs(a - b) > _ROUNDING for a, b in zip(corners, (left, top, right, bottom), strict=True)
    ):
        tally.change("box", "it reaches out of the image and is clipped", line.where)
    # Six decimals drop what dividing and multiplying adds.
    return rounded((left * size[0], top * size[1], right * size[0], bottom * size[1]), _DIGITS)


def _points(
    line: Line, values: Sequence[float], size: tuple[int, int], tally: Tally
) -> tuple[float, ...]:
    fractions = _fractions(line, values, tally)
    return tuple(round(each * size[at % 2], _DIGITS) for at, each in enumerate(fractions))


def _keypoints(
    line: Line, values: Sequence[float], each: int, size: tuple[int, int], tally: Tally
) -> list[float]:
    """COCO's x, y, v, x, y, v, ...; without v, a point at 0, 0 is one that is not labelled."""
    found: list[float] = []
    for start in range(0, len(values), each):
        x, y = _points(line, values[start : start + 2], size, tally)
        seen = values[start + 2] if each == 3 else (2.0 if x or y else 0.0)
        if seen not in (0, 1, 2) and not 0 <= seen <= 1:
            raise InputError(
                f"{line.where}: expected a keypoint's visibility of 0, 1 or 2, or its confidence, "
                f"got {seen:g}"
            )
        if not seen.is_integer() and seen < 1:
            reason = "its confidence is not kept; it counts as visible"
            tally.change("keypoint", reason, line.where)
            seen = 2.0
        found += [x, y, int(seen)]
    return found
