"""Which classes may be negatives in an image, from what a federated data set says of it."""

from pathlib import Path

import pytest

from integrations.annotations import Tally
from regionspot.errors import InputError
from train.data.verified_classes import VerifiedClasses

BOXED, ABSENT, OPEN = VerifiedClasses.BOXED, VerifiedClasses.ABSENT, VerifiedClasses.OPEN
NAMES = {1: "animal", 2: "dog", 3: "puppy", 4: "car", 5: "bow", 6: "bow"}
ANCESTORS = {2: frozenset({1}), 3: frozenset({1, 2})}
LAST = (1 << 64) - 1  # Open Images has ids of 64 bits


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([], set()),
        ([(4, BOXED)], {"car"}),
        ([(4, ABSENT)], {"car"}),
        ([(4, OPEN)], set()),
        ([(4, BOXED), (4, OPEN)], set()),
        ([(2, ABSENT)], {"dog", "puppy"}),
        ([(2, ABSENT), (3, OPEN)], set()),
        ([(1, BOXED), (2, OPEN), (4, ABSENT)], {"car"}),
        ([(5, BOXED)], set()),
        ([(5, BOXED), (6, ABSENT)], {"bow"}),
        ([(5, BOXED), (6, OPEN)], set()),
    ],
)
@pytest.mark.parametrize("image", [0, 7, LAST])
@pytest.mark.parametrize("typecode", ["q", "H"])
def test_what_is_verified(
    entries: list[tuple[int, int]], found: set[str], image: int, typecode: str
) -> None:
    verified = VerifiedClasses(Path("labels"), typecode)
    verified.add(LAST - 1, 4, BOXED)
    for category, kind in entries:
        verified.add(image, category, kind)
    verified.add(1, 4, BOXED)
    verified.finish(NAMES, ANCESTORS)
    assert verified(image) == found
    assert verified(1) == verified(LAST - 1) == {"car"}
    assert verified(2) == frozenset()


def test_what_is_said_of_a_category_without_a_name_is_counted() -> None:
    tally = Tally()
    verified = VerifiedClasses(Path("labels.json"), tally=tally)
    verified.add(1, 9, ABSENT)
    verified.add(1, 4, ABSENT)
    verified.add(1, 8, BOXED)  # counted where the boxes are
    assert verified.finish(NAMES)(1) == {"car"}
    (line,) = tally.lines()
    assert line.startswith("left out: 1 x verified class of an image: its category is not among")
    assert line.endswith("first: labels.json: image_id 1, category 9")
    strict = VerifiedClasses(Path("labels.json"), tally=Tally(strict=True))
    strict.add(1, 9, ABSENT)
    with pytest.raises(InputError, match=r"labels\.json: .*category 9: .*--strict"):
        strict.finish(NAMES)
