import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionspot.names import clean_name, display_name, name_key, without_brackets


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


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert clean_name(clean_name(text)) == clean_name(text)
    assert display_name(display_name(text)) == display_name(text)
