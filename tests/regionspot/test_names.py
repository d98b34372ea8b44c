import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionspot.names import (
    clean_name,
    contested_keys,
    display_name,
    distinct_names,
    name_key,
    without_brackets,
    without_underscores,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cup", "cups"),
        ("Traffic Light", "traffic-lights"),
        ("hot_dog", "hot  dog"),
        ("cherry", "cherries"),
        ("cookie", "cookies"),
        ("box", "boxes"),
        ("watch", "watches"),
        ("cafe\u0301", "CAF\u00c9"),
    ],
)
def test_spellings_of_one_class(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("glass", "glasses"),
        ("bus", "bu"),
        ("mouse_(animal)", "mouse_(computer_equipment)"),
        ("car", "automobile"),
        ("-", "_"),
    ],
)
def test_names_of_two_classes(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def test_display_name_is_what_a_person_would_write() -> None:
    assert display_name("bus_(vehicle)") == "bus"
    assert display_name("Traffic_Light") == "Traffic Light"
    assert display_name("(unnamed)") == "(unnamed)"
    assert without_brackets("(unnamed)") == ""


def test_names_are_shortened_only_where_they_stay_apart() -> None:
    names = ("bus_(vehicle)", "bow_(weapon)", "bow_(hair_ribbon)", "fish", "fish_(food)", "(none)")
    assert distinct_names(names, display_name, without_underscores) == (
        "bus",
        "bow (weapon)",
        "bow (hair ribbon)",
        "fish",
        "fish (food)",
        "(none)",
    )
    assert distinct_names(("A", "a", "B", "a"), str.lower) == ("A", "a", "b", "a")
    assert distinct_names(("/x", "y/z"), lambda name: name.split("/")[0]) == ("/x", "y")


@given(st.lists(st.text("aB_ ()", max_size=6), unique=True))
def test_distinct_names_stay_distinct(names: list[str]) -> None:
    assert len(set(distinct_names(names, display_name, without_underscores))) == len(names)


def test_keys_that_two_names_of_one_set_have() -> None:
    assert contested_keys([("A", "a", "cup"), ("cups", "b", "b")]) == {"a"}


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert clean_name(clean_name(text)) == clean_name(text)
    assert display_name(display_name(text)) == display_name(text)
