"""Random labelled sets, and one that is written out by hand."""

import numpy as np
from hypothesis import strategies as st

from integrations.annotations import Annotation, Category, LabelledImage, LabelledSet
from regionspot.types import Rle, encode_mask

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=12)
IDS = st.integers(0, 2**53)
# Files carry decimals, so that is what round trips are held to.
SHARE = st.integers(0, 10**6).map(lambda value: value / 10**6)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["runner_up", "margin", "occluded", "note"]),
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), SHARE, NAME),
    max_size=3,
)


def file_name() -> st.SearchStrategy[str]:
    parts = st.lists(NAME.filter(lambda part: part.strip(".") != ""), min_size=1, max_size=3)
    return parts.map("/".join)


@st.composite
def masks(draw: st.DrawFn, width: int, height: int) -> Rle:
    """Any pixels at all, holes, islands, nothing; or a frame around a hole."""
    if draw(st.booleans()):
        frame = np.ones((height, width), np.bool_)
        frame[1:-1, 1:-1] = False
        return encode_mask(frame)
    seed, density = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return encode_mask(np.random.default_rng(seed).random((height, width)) < density)


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[float, float]:
    """Where a box begins and ends: anywhere, at a border, on one pixel, or from end to end."""
    kind = draw(st.sampled_from(["any", "any", "pixel", "first", "last", "all"]))
    if kind == "any":
        low, high = sorted(draw(st.lists(st.integers(0, length * 100), min_size=2, max_size=2)))
        return low / 100, high / 100
    pixel = draw(st.integers(0, length - 1))
    return {
        "pixel": (float(pixel), pixel + 1.0),
        "first": (0.0, pixel + 1.0),
        "last": (float(pixel), float(length)),
        "all": (0.0, float(length)),
    }[kind]


@st.composite
def annotations(draw: st.DrawFn, width: int, height: int, category_ids: list[int]) -> Annotation:
    (x1, x2), (y1, y2) = draw(spans(width)), draw(spans(height))
    corners = (x1, y1, x2, y2)
    triangle = (corners[0], corners[1], corners[2], corners[1], corners[2], corners[3])
    return Annotation(
        category_id=draw(st.sampled_from(category_ids)),
        box=corners,
        score=draw(st.none() | SHARE),
        mask=draw(st.none() | st.just((triangle, triangle)) | masks(width, height)),
        area=draw(st.none() | SHARE),
        is_crowd=draw(st.booleans()),
        attributes=draw(ATTRIBUTES),
    )


@st.composite
def labelled_sets(draw: st.DrawFn) -> LabelledSet:
    category_ids = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    # Now and then three hundred words more, that nothing has; the first ones stand behind them.
    many = draw(st.sampled_from([0, 0, 0, 300]))
    unused = [number for number in range(many) if number not in category_ids]
    categories = tuple(Category(number, f"word {number}") for number in unused) + tuple(
        Category(
            id=category_id,
            name=draw(NAME),
            synonyms=tuple(draw(st.lists(st.sampled_from("αβγ"), max_size=2, unique=True))),
            supercategory=draw(st.sampled_from(["", "animal"])),
            synset=draw(st.sampled_from(["", "cat.n.01"])),
            definition=draw(st.sampled_from(["", "a feline"])),
            frequency=draw(st.sampled_from([None, "r", "c", "f"])),
        )
        for category_id in category_ids
    )
    images = []
    for image_id in draw(st.lists(IDS, max_size=4, unique=True)):
        width, height = draw(st.integers(1, 30)), draw(st.integers(1, 30))
        some = st.lists(st.sampled_from(category_ids), max_size=3, unique=True).map(tuple)
        rows = st.lists(annotations(width, height, category_ids), max_size=4).map(tuple)
        images.append(
            LabelledImage(
                id=image_id,
                file_name=draw(file_name()),
                width=width,
                height=height,
                annotations=draw(rows),
                absent=draw(some),
                unverified=draw(some),
                attributes=draw(ATTRIBUTES),
            )
        )
    return LabelledSet(categories, tuple(images))


def small_set() -> LabelledSet:
    """Two images, one of them empty, three words."""
    mask = np.zeros((30, 40), np.bool_)
    mask[5:15, 10:30] = True
    mask[8:10, 15:20] = False
    return LabelledSet(
        (Category(1, "cat", ("kitty",)), Category(2, "Äpfel"), Category(3, "teapot")),
        (
            LabelledImage(
                7,
                "a b/ñandú.jpg",
                40,
                30,
                (
                    Annotation(1, (10, 5, 30, 15), 0.75, encode_mask(mask)),
                    Annotation(2, (0, 0, 40, 30), 0.5),
                    Annotation(1, (39, 29, 40, 30), 0.25),
                ),
                unverified=(1, 2, 3),
            ),
            LabelledImage(9, "empty.jpg", 8, 8, unverified=(1, 2, 3)),
        ),
    )
