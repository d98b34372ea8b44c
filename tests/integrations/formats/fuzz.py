"""Generated inputs: mutations of valid label sets, which a reader reads or refuses in one line.

    python -m tests.integrations.formats.fuzz 10000    the number of inputs; then the first seed

The valid sets are those that our writers write and shapes of other tools' files. A mutation flips
bytes, cuts a file, saves it in another encoding, or deletes, repeats, retypes or replaces a part of
its JSON, XML or text. `check` says what is wrong with a reader's answer.
"""

import copy
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from integrations.annotations import LabelledSet, as_rle
from integrations.formats.registry import FORMATS, format_named, read_labels, write_folder
from integrations.masks import MOST_PIXELS
from regionspot.errors import InputError
from regionspot.types import decode_mask
from tests.integrations.formats.shapes import SHAPES, Files, our_set

LIMIT = 5.0  # seconds that one input may take
# FiftyOne's importer fills a database, so that it takes as long as a hundred other readers.
RARE = "fiftyone"
BINARY = "parquet"  # mutations of text say nothing of it; its own tests have others
RARELY = 0.01
NUMBERS = (
    "NaN",
    "1e308",
    "1e999",
    "-1",
    "0",
    "0.5",
    "-0.0",
    "1000000000",
    "4294967297",
    "9" * 40,
    "9" * 6000,
    "-1e308",
)
STRINGS = ("", " ", "a\nb", "\ud800", "x" * 5000, "../x", "/etc/passwd", "C:\\x", "a\0b", "12", "é")
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    "x",
    0,
    -1,
    2.5,
    1e308,
)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "gbk")
CVAT_SHAPES = ("box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")
WRITERS = ("coco", "lvis", "yolo", "voc", "cvat", "label-studio")


@dataclass(frozen=True)
class Case:
    """A generated input.

    Attributes:
        seed: makes the same input again.
        format: that it is read as.
        files: content by path.
        mutation: what was done.
        labels: how many labels there still are, where the mutation lies inside of one record; a
            reader has to give as many, or say what it left out. None: it may be any number.
    """

    seed: int
    format: str
    files: Files
    mutation: str
    labels: int | None


def generate(seed: int) -> Case:
    """A valid set with a mutation or two of one of its label files."""
    rng = random.Random(seed)
    name, files = _base(rng)
    files = dict(files)
    labels: int | None = None
    done = []
    twice = rng.random() < 0.2
    for _ in range(2 if twice else 1):
        path = rng.choice(sorted(each for each in files if not each.endswith((".jpg", ".png"))))
        mutate = rng.choice((*_MUTATIONS.get(Path(path).suffix, (_lines,)), _flip, _cut, _encode))
        try:
            mutated, what, labels = mutate(files[path], rng)
        except Exception:  # the first mutation left nothing that this one knows
            mutated, what, labels = _flip(files[path], rng)
        files[path] = mutated
        if mutate is _lines and "labels" in Path(path).parts:
            labels = _yolo_labels(files)
        done.append(f"{path}: {what}")
    return Case(seed, name, files, "; ".join(done), None if twice else labels)


def _base(rng: random.Random) -> tuple[str, Files]:
    if rng.random() < RARELY:
        return RARE, our_set(RARE)
    shapes = [each for each in SHAPES if each[0] != RARE]
    if rng.random() < 0.5:
        return rng.choice(shapes)
    name = rng.choice([each for each in FORMATS if each not in (RARE, BINARY)])
    return name, our_set(name)


def _yolo_labels(files: Files) -> int:
    """How many lines the label files have: the readers give each, or refuse its file."""
    texts = (
        files[name].decode("utf-8", "replace")
        for name in files
        if name.endswith(".txt") and "labels/" in name
    )
    return sum(bool(line.strip()) for text in texts for line in text.split("\n"))


def _flip(content: bytes, rng: random.Random) -> tuple[bytes, str, None]:
    mutable = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 3, 20))):
        mutable[rng.randrange(len(mutable))] = rng.randrange(256)
    return bytes(mutable), "bytes flipped", None


def _cut(content: bytes, rng: random.Random) -> tuple[bytes, str, None]:
    at = rng.randrange(len(content) + 1)
    kept = content[:at] if rng.random() < 0.7 else content[at:]
    return kept, f"cut at {at}", None


def _encode(content: bytes, rng: random.Random) -> tuple[bytes, str, None]:
    encoding = rng.choice(ENCODINGS)
    return content.decode("utf-8", "replace").encode(encoding, "replace"), encoding, None


def _json(content: bytes, rng: random.Random) -> tuple[bytes, str, int | None]:
    top = json.loads(content)
    before = _json_labels(top)
    places = list(_places(top, ()))
    if not places:
        return content, "nothing", None
    path = rng.choice(places)
    parent = top
    for key in path[:-1]:
        parent = parent[key]
    what, last = "", path[-1]
    action = rng.choice(("delete", "repeat", "retype", "number", "string", "nest"))
    if action == "delete":
        del parent[last]
    elif action == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    elif action == "number":
        what = rng.choice(NUMBERS)
        parent[last] = f"@number@{what}@"
    elif action == "string":
        parent[last] = rng.choice(STRINGS)
    elif action == "nest":
        depth = rng.choice((3, 3, 100_000))
        what = f"depth {depth}"
        parent[last] = f"@number@{'[' * depth}{']' * depth}@"
    else:
        parent[last] = rng.choice(VALUES)
    text = json.dumps(top, ensure_ascii=rng.random() < 0.5)
    if "@number@" in text:
        head, _, tail = text.partition('"@number@')
        value, _, tail = tail.partition('@"')
        text = head + value + tail
    data = text.encode("utf-8", "surrogatepass")
    # Only what lies inside of a record leaves the number of records as it was.
    inside = action in ("retype", "number", "string") and _inside_record(path)
    return data, f"{action} {what[:20]} at {'/'.join(map(str, path))}", before if inside else None


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """All keys and indices, those of records more often than those of long lists of numbers."""
    items = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[:6]
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _json_labels(top: Any) -> int | None:
    if isinstance(top, dict) and isinstance(top.get("annotations"), list):
        return len(top["annotations"])
    if isinstance(top, list) and top and isinstance(top[0], dict):
        results = [
            result
            for task in top
            for kind in ("annotations", "predictions")
            for each in task.get(kind, ())
            for result in each.get("result", ())
        ]
        return len(results) if all("id" not in each for each in results) else None
    return None


def _inside_record(path: tuple[Any, ...]) -> bool:
    return len(path) > 2 and path[0] == "annotations"


def _xml(content: bytes, rng: random.Random) -> tuple[bytes, str, int | None]:
    root = ElementTree.fromstring(content)
    parents = {child: parent for parent in root.iter() for child in parent}
    element = rng.choice(list(root.iter()))
    action = rng.choice(("delete", "repeat", "text", "attribute", "tag"))
    labels = _xml_labels(root)
    is_record = element.tag in ("object", "annotation", "image", *CVAT_SHAPES) or element is root
    if action == "delete" and element in parents:
        parents[element].remove(element)
        labels = None if is_record else labels
    elif action == "repeat" and element in parents:
        parents[element].append(copy.deepcopy(element))
        labels = None
    elif action == "attribute" and element.attrib:
        element.set(rng.choice(sorted(element.attrib)), _xml_text(rng))
    elif action == "tag":
        element.tag = rng.choice(("x", "object", "box", "polygon", "name"))
        labels = None
    else:
        element.text = _xml_text(rng)
    return ElementTree.tostring(root, "utf-8"), f"{action} of <{element.tag}>", labels


def _xml_labels(root: ElementTree.Element) -> int | None:
    """How many labels VOC's or CVAT's XML has at least; None: it has tracks.

    CVAT's shapes of one group may be one label.
    """
    if root.tag == "annotation":
        return len(root.findall("object"))
    if root.find("track") is not None:
        return None
    labels = 0
    for image in root.findall("image"):
        groups = [each.get("group_id") for each in image if each.tag in CVAT_SHAPES]
        labels += groups.count(None) + len(set(groups) - {None})
    return labels


def _xml_text(rng: random.Random) -> str:
    texts = [each for each in (*NUMBERS, *STRINGS) if "\0" not in each and each != "\ud800"]
    return rng.choice([*texts, "1,2;3", "1,2;3,x", ";;"])


def _lines(content: bytes, rng: random.Random) -> tuple[bytes, str, None]:
    lines = content.decode("utf-8", "replace").split("\n")
    row = rng.randrange(len(lines))
    action = rng.choice(("delete", "repeat", "token", "token", "token", "insert"))
    if action == "delete":
        del lines[row]
    elif action == "repeat":
        lines.append(lines[row])
    else:
        tokens = lines[row].split(" ")
        new = rng.choice((*NUMBERS, *STRINGS, *map(str, VALUES)))
        at = rng.randrange(len(tokens))
        tokens[at : at + (action == "token")] = [new]
        lines[row] = " ".join(tokens)
    return "\n".join(lines).encode("utf-8", "surrogatepass"), f"{action} in line {row + 1}", None


Mutation = Callable[[bytes, random.Random], tuple[bytes, str, int | None]]
_MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    ".json": (_json, _json, _json, _json),
    ".xml": (_xml, _xml, _xml, _xml),
    ".txt": (_lines, _lines),
    ".yaml": (_lines, _lines),
}


def check(case: Case, folder: Path) -> str:
    """Read an input, and write what was read; what is wrong with the answer, or "".

    Args:
        case: the input.
        folder: an empty one.
    """
    source = folder / "in"
    _write_files(source, case.files)
    format = format_named(case.format)
    images = source / format.images
    path = source / format.entries[0] if format.is_file else source
    began = time.monotonic()
    try:
        with _alarm():
            data = read_labels(format, path, images if images.is_dir() else None)
            problem = _wrong_labels(case, data)
            if not problem:
                _write(case, data, folder / "out")
    except InputError as error:
        problem = "" if _is_one_line(str(error), folder) else f"message: {str(error)[:300]!r}"
    except Exception:  # whatever else a reader raises is what is looked for
        problem = traceback.format_exc(limit=-4)
    seconds = time.monotonic() - began
    return problem or (f"took {seconds:.1f} s" if seconds > LIMIT else "")


def _wrong_labels(case: Case, data: LabelledSet) -> str:
    read = sum(len(image.annotations) for image in data.images)
    left_out = sum(entry.count for entry in data.tally.left_out.values())
    if case.labels is not None and read + left_out < case.labels:
        return f"{case.labels} labels, of which {read} are read and {left_out} left out"
    known = {category.id for category in data.categories}
    for image in data.images:
        for each in image.annotations:
            if each.category_id not in known:
                return f"category {each.category_id} is unknown"
            if each.mask is not None and 0 < image.width * image.height <= MOST_PIXELS:
                decode_mask(as_rle(each.mask, image.width, image.height))
    return ""


def _write(case: Case, data: LabelledSet, out: Path) -> None:
    """Write the set in one of the formats, as `convert` does."""
    format = format_named(WRITERS[case.seed % len(WRITERS)])
    write_folder(out, format, data.categories, data.images, tally=data.tally)


def _is_one_line(message: str, folder: Path) -> bool:
    names_file = str(folder) in message
    return names_file and len(message.splitlines()) == 1 and len(message) < 2000


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise TimeoutError in what takes too long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write_files(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(
    count: int, first: int = 0, formats: tuple[str, ...] = ()
) -> tuple[Counter[str], list[str]]:
    """Check inputs of so many seeds: how many there were of each format, and what was wrong."""
    counts: Counter[str] = Counter()
    problems = []
    for seed in range(first, first + count):
        case = generate(seed)
        if formats and case.format not in formats:
            continue
        with tempfile.TemporaryDirectory() as folder:
            problem = check(case, Path(folder))
        counts[case.format] += 1
        if problem:
            counts["wrong"] += 1
            problems.append(f"seed {seed}, {case.format}: {case.mutation[:200]}\n{problem}")
    return counts, problems


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = 10**6  # no generated image is larger
    counts, problems = run(int(sys.argv[1]), *map(int, sys.argv[2:3]), formats=tuple(sys.argv[3:]))
    print("\n\n".join(problems))
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    sys.exit(bool(problems))
