"""COCO, Objects365 v1 and v2, and V3Det: every word is annotated in every image."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from regionspot.errors import InputError
from regionspot.names import display_name
from train.data.box_table import TableImages
from train.data.coco_json import CROWDS, CocoFile, read_coco_json
from train.data.json_stream import load_json, stream_records
from train.data.label_space import with_synonyms
from train.data.types import AnnotatedImage, Dataset, Words

INSTANCES, IMAGES = "instances.json", "images"
V3DET_TRAIN, V3DET_TREE = "v3det_2023_v1_train.json", "v3det_2023_v1_category_tree.json"


def read_coco(path: Path, images: Path, name: str = "") -> Dataset:
    """COCO's instances JSON (cocodataset.org, "Data format", object detection).

    Crowds and suspected crowds (`maybe_crowd`) are no single objects and are left out. That says
    nothing against their words elsewhere in the image, for every other box is known to be its own
    word and no other: `verified` stays None.

    Args:
        path: of the JSON.
        images: folder of the images.

    Raises:
        InputError: the file cannot be read or does not hold together.
    """
    return _dataset(name or f"coco:{path}", read_coco_json(path, images, display_name))


def read_objects365(path: Path, images: Path, name: str = "") -> Dataset:
    """Objects365's JSON, v1 or v2 (Shao et al. 2019; objects365.org).

    Left out beside crowds: what is a picture or a toy of the object (`isfake`) or a reflection of
    it (`isreflected`). Of a name like "Cabinet/shelf" the first part is the word and the others
    are its synonyms.

    Args, Raises: as `read_coco`.
    """
    left_out = (*CROWDS, "isfake", "isreflected")
    file = read_coco_json(path, images, lambda name: _alternatives(name)[0], left_out)
    words = with_synonyms(
        (_alternatives(each.name)[0], _alternatives(each.name)) for each in file.categories
    )
    return Dataset(name or f"objects365:{path}", words, TableImages(file.table))


def read_v3det(path: Path, images: Path, tree: Path, name: str = "") -> Dataset:
    """V3Det's JSON and its category tree (Wang et al. 2023, section 3; V3Det's README).

    Args:
        path, images: as in `read_coco`.
        tree: the JSON of the category tree: `categoryid2treeid` and `ancestor2descendant`.

    Raises:
        InputError: a file cannot be read or does not hold together.
    """
    file = read_coco_json(path, images, display_name)
    word_of = {str(each.id): display_name(each.name) for each in file.categories}
    dataset = _dataset(name or f"v3det:{path}", file)
    return replace(dataset, broader=_ancestors(tree, word_of))


def load_coco(folder: Path) -> list[AnnotatedImage]:
    """All images with boxes of `folder/instances.json` and `folder/images`, at once.

    Raises:
        InputError: the file is not there or does not hold together.
    """
    return list(read_coco(folder / INSTANCES, folder / IMAGES).images)


def listed_words(folder: Path) -> dict[str, list[str]]:
    """The words of all categories that `folder/instances.json` lists, each with its synonyms.

    Raises:
        InputError: the file is not there or does not hold together.
    """
    pairs = (
        (
            display_name(record.text("name")),
            [display_name(text) for text in record.texts("synonyms")],
        )
        for record in stream_records(folder / INSTANCES, frozenset({"categories"}))
    )
    return {word: list(strings) for word, strings in with_synonyms(pairs).items()}


def category_words(file: CocoFile) -> Words:
    """The words of all categories of a file, each with its synonyms."""
    return with_synonyms(
        (display_name(each.name), [display_name(text) for text in each.synonyms])
        for each in file.categories
    )


def _dataset(name: str, file: CocoFile) -> Dataset:
    return Dataset(name, category_words(file), TableImages(file.table))


def _alternatives(name: str) -> list[str]:
    parts = [display_name(part) for part in name.split("/")]
    return [part for part in parts if part] or [name]


def _ancestors(path: Path, word_of: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The broader words of each word, from V3Det's tree.

    Args:
        word_of: the word of each category id, which the tree writes as a string.
    """
    content = load_json(path)
    try:
        word_at = {
            node: word_of[id] for id, node in content["categoryid2treeid"].items() if id in word_of
        }
        broader: dict[str, set[str]] = {}
        for ancestor, descendants in content["ancestor2descendant"].items():
            for node in descendants if ancestor in word_at else ():
                if node in word_at and word_at[node] != word_at[ancestor]:
                    broader.setdefault(word_at[node], set()).add(word_at[ancestor])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not V3Det's category tree with categoryid2treeid and "
            f"ancestor2descendant: {error!r}; it lies in the annotations of V3Det"
        ) from error
    return {word: frozenset(words) for word, words in broader.items()}
