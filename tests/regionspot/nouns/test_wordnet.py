"""How words stand to the nouns of the bank."""

import pytest

from regionspot.nouns.wordnet import NounHierarchy, Relations, noun_hierarchy


@pytest.fixture(scope="module")
def hierarchy() -> NounHierarchy:
    return noun_hierarchy()


def names(hierarchy: NounHierarchy, rows: frozenset[int]) -> set[str]:
    return {hierarchy.names[row] for row in rows}


def relations(hierarchy: NounHierarchy, *strings: str) -> tuple[set[str], set[str]]:
    found: Relations = hierarchy.relations(strings)
    return names(hierarchy, found.kinds), names(hierarchy, found.others)


def test_the_bank_has_the_common_nouns_once(hierarchy: NounHierarchy) -> None:
    assert 1000 < len(hierarchy.names) < 3000
    assert len(set(hierarchy.names)) == len(hierarchy.rows) == len(hierarchy.names)
    assert {"person", "dog", "traffic light", "stop sign", "teddy bear"} < set(hierarchy.names)


@pytest.mark.parametrize(
    ("word", "kinds", "no_kinds"),
    [
        ("animal", {"dog", "zebra", "bird"}, {"chair", "mouse", "kite", "hot dog"}),
        ("vehicle", {"car", "airplane", "boat"}, {"dog", "wheel"}),
        ("food", {"banana", "pizza", "hot dog"}, {"dog", "cup", "fork"}),
        ("furniture", {"chair", "couch", "bed"}, {"oven", "person"}),
        ("crockery", {"cup", "bowl"}, {"refrigerator", "person"}),
        ("dog", {"dog", "golden retriever"}, {"cat", "hot dog"}),
    ],
)
def test_kinds_stand_below_a_word(
    hierarchy: NounHierarchy, word: str, kinds: set[str], no_kinds: set[str]
) -> None:
    found, _ = relations(hierarchy, word)
    assert kinds <= found
    assert not no_kinds & found


@pytest.mark.parametrize("spelling", ["wine glass", "wineglass", "Wine_Glass", "wine-glass"])
def test_spellings_of_one_word_stand_alike(hierarchy: NounHierarchy, spelling: str) -> None:
    kinds, others = relations(hierarchy, spelling)
    assert "wine glass" in kinds
    assert "glass" in others


def test_what_stands_above_is_neither_a_kind_nor_against(hierarchy: NounHierarchy) -> None:
    kinds, others = relations(hierarchy, "poodle")
    assert "dog" in others
    assert not {"dog", "cat"} & kinds
    assert "cat" not in others


def test_a_phrase_is_a_kind_of_what_its_last_part_names(hierarchy: NounHierarchy) -> None:
    kinds, others = relations(hierarchy, "rusty red car")
    assert not kinds
    assert {"car", "minivan"} <= others
    assert "bicycle" not in others


def test_synonyms_add_up(hierarchy: NounHierarchy) -> None:
    kinds, _ = relations(hierarchy, "thing of ours", "couch", "armchair")
    assert {"couch", "armchair"} <= kinds


@pytest.mark.parametrize("word", ["<script>alert(1)</script>", "qwrtzp", "12345", "???"])
def test_what_is_no_word_stands_to_nothing(hierarchy: NounHierarchy, word: str) -> None:
    found = hierarchy.relations([word])
    assert found == Relations(False, frozenset(), frozenset(), frozenset())
