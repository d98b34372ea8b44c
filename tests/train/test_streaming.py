"""A large JSON is read in memory that hardly grows with it."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from train.data.json_stream import stream_records

from regionspot.errors import InputError
from tests.train.written import annotation, coco, image
from train.data import json_stream

BOXES_OF_IMAGE = 20
# 20 bytes a box, as many again while they are sorted by image, and 60 an image.
BYTES_OF_BOX = 80
WINDOW = 3 << 20


READ = """
import sys, tracemalloc
from pathlib import Path
from train.data import read_coco
tracemalloc.start()
dataset = read_coco(Path(sys.argv[1]), Path(sys.argv[2]))
seen = sum(len(each.names) for each in dataset.images)
print([seen, tracemalloc.get_traced_memory()[1]])
"""


def write_large(path: Path, images: int) -> int:
    """A file as it is found in the wild: long segmentations, on one line. Returns its bytes."""
    outline = list(itertools.chain.from_iterable((i + 0.25, i + 0.5) for i in range(40)))
    number = itertools.count(1)

    def annotations() -> Iterator[str]:
        for image_id in range(images):
            for _ in range(BOXES_OF_IMAGE):
                each = annotation(next(number), image_id, 1, segmentation=[outline], iscrowd=0)
                yield json.dumps(each)

    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        file.writelines(f"{', ' if i else ''}{json.dumps(image(i))}" for i in range(images))
        file.write('], "annotations": [')
        file.writelines(f"{', ' if i else ''}{each}" for i, each in enumerate(annotations()))
        file.write('], "categories": [{"id": 1, "name": "cat"}]}')
    return path.stat().st_size


def test_memory_stays_bounded(tmp_path: Path) -> None:
    path, images = tmp_path / "large.json", 900
    size = write_large(path, images)
    # In a process of its own: threads of other tests allocate, too.
    done = subprocess.run(
        [sys.executable, "-c", READ, path, tmp_path], stdout=subprocess.PIPE, check=True
    )
    seen, peak = json.loads(done.stdout)
    assert seen == images * BOXES_OF_IMAGE
    assert size > 3 * WINDOW
    assert peak < WINDOW + BYTES_OF_BOX * seen


texts = st.text('aé€"\\{}[],: \n', max_size=5)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | floats | texts
objects = st.dictionaries(texts, scalars | st.lists(scalars, max_size=3), max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(objects, max_size=4) | objects, max_size=3),
    st.integers(1, 40),
    st.sampled_from([None, 2]),
)
def test_wherever_a_chunk_ends(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object], chunk: int, indent: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
    lists = {key: value for key, value in content.items() if isinstance(value, list)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        found = list(stream_records(path, frozenset(lists)))
    assert [(each.group, each.index, each.values) for each in found] == [
        (key, i, value) for key, values in lists.items() for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a"', '{"a": [1]}', '{"a": [{}', '{"a": [{} {}]}', '{"a": {}} ']
)
def test_what_is_no_object_of_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        list(stream_records(path, frozenset("a")))


def test_a_record_that_never_ends_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 64)
    monkeypatch.setattr(json_stream, "LONGEST", 1024)
    path = tmp_path / "x.json"
    path.write_text('{"a": [{"b": "' + "x" * 100_000)
    with pytest.raises(InputError, match="is the file complete"):
        list(stream_records(path, frozenset("a")))


def test_other_values_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"year": 2017, "info": {"a": [1]}, **coco([image(1)], [], {})}))
    assert [each.values["id"] for each in stream_records(path, frozenset({"images"}))] == [1]
