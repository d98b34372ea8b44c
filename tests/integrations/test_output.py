"""What a command prints, and where."""

import json
import math
from pathlib import Path

import pytest

from integrations.output import Output
from regionspot.errors import InputError

Captured = pytest.CaptureFixture[str]


def write_all(output: Output) -> None:
    with output.progress() as reporter:
        reporter.message("working")
    print("a library's own words")
    output.line("done")
    output.notice("left out: 1")
    output.summary({"path": Path("a"), "score": math.nan, "labels": (1, 2)})


def test_a_person_gets_lines(capsys: Captured) -> None:
    with Output() as output:
        write_all(output)
    captured = capsys.readouterr()
    assert captured.out == "a library's own words\ndone\nleft out: 1\n"
    assert captured.err == "working\n"


def test_a_program_gets_one_line_of_json(capsys: Captured) -> None:
    with Output(as_json=True) as output:
        write_all(output)
    captured = capsys.readouterr()
    assert captured.out == '{"path": "a", "score": null, "labels": [1, 2]}\n'
    assert captured.err == "working\na library's own words\nleft out: 1\n"


def test_quiet_leaves_notices(capsys: Captured) -> None:
    with Output(quiet=True) as output:
        output.line("done")
        output.notice("left out: 1")
        with output.progress() as reporter:
            reporter.message("working")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "left out: 1\n")


def test_names_that_are_no_utf8_stay_one_line(capsys: Captured) -> None:
    with Output(as_json=True) as output:
        output.summary({"name": "caf\udce9\n"})
    assert json.loads(capsys.readouterr().out) == {"name": "caf\udce9\n"}


@pytest.mark.parametrize(
    ("error", "text"), [(InputError("a\nb"), "a b"), (KeyboardInterrupt(), "stopped")]
)
def test_an_error_is_a_line_of_json_too(capsys: Captured, error: BaseException, text: str) -> None:
    with pytest.raises(type(error)), Output(as_json=True):
        raise error
    assert json.loads(capsys.readouterr().out) == {"error": text}


def test_nothing_is_written_of_a_fault_of_ours(capsys: Captured) -> None:
    with pytest.raises(RuntimeError), Output(as_json=True):
        raise RuntimeError
    assert not capsys.readouterr().out
