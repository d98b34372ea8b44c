"""Records of a JSON file, whatever its chunks; files that are none."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.formats import json_stream
from integrations.formats.coco import read_coco
from integrations.formats.json_stream import stream_list, stream_records
from regionspot.errors import InputError

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
    path.write_text(
        json.dumps({"year": 2017, "info": {"a": [1]}, "images": [{"id": 1}], "annotations": []})
    )
    assert [each.values["id"] for each in stream_records(path, frozenset({"images"}))] == [1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "line 1 is not JSON"),
        (b'{"images": [\n\n oops', "line 3 is not JSON"),
        (b'{"images": [{"id": NaN}]}', "NaN is not JSON"),
        (b"\xff\xfe\xfd", "cannot be read"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "no label file"),
    ],
)
def test_broken_json(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json cannot be read: No such file"):
        read_coco(tmp_path / "none.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_other_encodings_of_json_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": [{"b": "ñ"}]}', encoding=encoding)
    assert [each.values for each in stream_records(path, {"a"})] == [{"b": "ñ"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "x.json is no list of tasks"),
        ("[\n{", "is not a JSON list of tasks: line 2 is not JSON, at character 3"),
        ("[{}, 5]", r"tasks\[1\] must be an object, got 5"),
        ("[{}] 5", "there is more behind the end"),
    ],
)
def test_what_is_no_list_of_objects(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(stream_list(path, "tasks"))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_line_is_counted_over_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_text('{"a": [\n{},\n\n{"b": oops}]}')
    with pytest.raises(InputError, match="line 4 is not JSON, at character 19: Expecting value"):
        list(stream_records(path, {"a"}))
