"""The noun bank is made of WordNet's files as they are."""

import json
from pathlib import Path

import pytest

from regionspot.errors import InputError
from train.data import nouns
from train.data.nouns import WordNet, build_noun_bank, parse_wordnet

DATA = """\
  1 This software and database is being provided to you
00000001 03 n 01 animal 0 000 | a living organism
00000002 05 n 02 dog 0 domestic_dog 0 002 @ 00000001 n 0000 ~ 00000003 n 0000 | a canine
00000003 05 n 01 poodle 0 001 @ 00000002 n 0000 | a dog with curly hair
00000004 06 n 02 andiron 0 dog 0 001 @ 00000005 n 0000 | metal supports for logs in a fireplace
00000005 06 n 01 support 0 000 | any device that bears weight
00000006 18 n 01 Lassie 0 001 @i 00000002 n 0000 | a famous dog
"""
INDEX = """\
  1 This software and database is being provided to you
animal n 1 1 ~ 1 1 00000001
andiron n 1 1 @ 1 0 00000004
dog n 2 2 @ ~ 2 1 00000002 00000004
domestic_dog n 1 1 @ 1 0 00000002
lassie n 1 1 @i 1 0 00000006
poodle n 1 1 @ 1 0 00000003
support n 1 1 ~ 1 0 00000005
"""


@pytest.fixture
def wordnet() -> WordNet:
    return parse_wordnet(DATA, INDEX)


def test_synsets_have_their_lemmas_and_hypernyms(wordnet: WordNet) -> None:
    dog = wordnet.synsets["00000002"]
    assert dog.lemmas == ("dog", "domestic dog")
    assert dog.parents == ("00000001",)
    assert wordnet.synsets["00000006"].parents == ()  # one dog is no kind of dog
    assert list(wordnet.senses["dog"]) == ["00000002", "00000004"]


def test_a_sense_is_found_by_its_definition(wordnet: WordNet) -> None:
    assert wordnet.matching("dog") == "00000002"
    assert wordnet.matching("dog", "supports for logs in a fireplace") == "00000004"
    assert wordnet.matching("dog", number=2) == "00000004"
    assert wordnet.matching("unicorn") is None


def test_files_without_categories_are_refused(
    tmp_path: Path, wordnet: WordNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nouns, "fetch_wordnet", lambda: wordnet)
    lvis = tmp_path / "lvis.json"
    lvis.write_text(json.dumps({"images": []}))
    with pytest.raises(InputError, match=r"lvis.json must be an annotation file with categories"):
        build_noun_bank(lvis, lvis, tmp_path / "nouns.txt.gz")
