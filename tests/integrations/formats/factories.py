"""Random labelled sets, and one that is written out by hand."""

import numpy as np
from hypothesis import strategies as st

from integrations.formats.labels import Annotation, Category, LabelledImage, LabelledSet
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
    """Any pixels at all: holes, islands, nothing."""
    seed, density = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return encode_mask(np.random.default_rng(seed).random((height, width)) < density)


@st.composite
def annotations(draw: st.DrawFn, width: int, height: int, category_ids: list[int]) -> Annotation:
    x1, x2 = sorted(draw(st.lists(st.integers(0, width * 100), min_size=2, max_size=2)))
    y1, y2 = sorted(draw(st.lists(st.integers(0, height * 100), min_size=2, max_size=2)))
    corners = (x1 / 100, y1 / 100, x2 / 100, y2 / 100)
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
    categories = tuple(
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
