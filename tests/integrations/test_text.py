"""Text from outside acts on nothing."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.text import csv_cell, printable, printable_json

ANY = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("caf\udce9", "caf\\udce9"),
        ("a\u2028b", "a\\u2028b"),
        ("[/x] :smile: Füße 猫 שלום", "[/x] :smile: Füße 猫 שלום"),
    ],
)
def test_what_acts_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY)
def test_all_that_is_printed_is_one_line_of_utf8(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not [each for each in shown if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")]


@given(ANY)
def test_json_keeps_its_value(text: str) -> None:
    shown = printable_json(json.dumps([text], ensure_ascii=False))
    shown.encode("utf-8")
    # A lone surrogate before another becomes a pair, as in all of JSON.
    assert json.loads(shown) == json.loads(json.dumps([text]))
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_formula_is_a_cell_of_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(f"cat {text}") == f"cat {text}"
