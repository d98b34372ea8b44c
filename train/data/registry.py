"""Data sets by what a person writes on the command line: `KIND:PATH[,KEY=VALUE ...]`.

| what is written | what is read |
|---|---|
| `FOLDER`, `coco:FOLDER` | `FOLDER/instances.json` and `FOLDER/images` |
| `coco:FILE.json,images=FOLDER` | a JSON elsewhere; also with `lvis`, `objects365`, `v3det` |
| `v3det:FOLDER` | V3Det's files in FOLDER or in its `annotations`; `tree=FILE` |
| `openimages:FOLDER,split=train` | the CSV files of a split; `boxes=`, `labels=`, `classes=`, |
| | `hierarchy=` and `images=` where they lie elsewhere |
| `fiftyone:NAME,field=ground_truth` | a FiftyOne dataset |
| `KIND:PATH,words=FILE` | of any kind, the boxes of the classes in a file, one a line, as the |
| | data names them |
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from integrations.annotations import Tally
from integrations.vocabulary_file import read_words
from regionspot.errors import InputError
from regionspot.names import clean_name
from train.data import coco
from train.data.coco import read_lvis
from train.data.dataset import Dataset
from train.data.fiftyone import read_fiftyone
from train.data.open_images import OpenImagesFiles, read_open_images

Options = Mapping[str, str]
Reader = Callable[[str, Options, Tally], Dataset]
WORDS = "words"


def open_dataset(spec: str, limit: int | None = None, tally: Tally | None = None) -> Dataset:
    """Open the data set that a person named.

    Args:
        spec: as the table above says; without a kind it is a folder in COCO's form.
        limit: number of the first images with a box to read; None: all.
        tally: counts what is mended and left out; None: a new one.

    Raises:
        InputError: an unknown kind or option, or files that are not there or cannot be used.
    """
    kind, colon, rest = spec.partition(":")
    if not colon:
        kind, rest = "coco", spec
    if kind not in READERS:
        raise InputError(
            f"unknown kind of data {kind!r} in {spec!r}: expected a folder, or KIND:PATH with one "
            f"of {', '.join(READERS)}"
        )
    read, known = READERS[kind][0], (*READERS[kind][1], WORDS)
    place, *pairs = rest.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in known or not value or key in options:
            raise InputError(
                f"{spec!r}: expected each of {', '.join(known)} at most once, as KEY=VALUE, "
                f"got {pair!r}"
            )
        options[key] = value
    if not place:
        raise InputError(f"{spec!r} does not say where the data is: write {kind}:PATH")
    words = options.pop(WORDS, None)
    dataset = read(place, options, Tally() if tally is None else tally)
    images = dataset.images if limit is None else dataset.images[:limit]
    dataset = replace(dataset, name=spec, images=images)
    return restricted(dataset, Path(words)) if words else dataset


def short_name(spec: str) -> str:
    """The name of a data set, wherever it lies, out of `KIND:PATH,KEY=VALUE`."""
    return Path(spec.rpartition(":")[2].partition(",")[0]).name


def restricted(dataset: Dataset, path: Path) -> Dataset:
    """A data set in the classes that a file names; synonyms in the file are ignored.

    Raises:
        InputError: the file cannot be read, or names a class that the data set has not.
    """
    names = known_classes(path, dataset)
    return replace(
        dataset,
        classes={name: strings for name, strings in dataset.classes.items() if name in names},
        ancestors={
            name: above & names for name, above in dataset.ancestors.items() if name in names
        },
        written={
            name: classes & names for name, classes in dataset.written.items() if classes & names
        },
        is_limited=True,
    )


def known_classes(path: Path, dataset: Dataset) -> frozenset[str]:
    """The classes of a data set that a file names, as they are called or as the data writes them.

    Raises:
        InputError: the file cannot be read, or names another class.
    """
    known: dict[str, frozenset[str]] = {}
    # Words of a file are clean; what a class is called comes before what another one is written as.
    called = {name: frozenset({name}) for name in dataset.classes}
    for name, classes in (dict(dataset.written) | called).items():
        known[clean_name(name)] = known.get(clean_name(name), frozenset()) | classes
    names = read_words(path, known).names
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"{path}: expected classes of the data, which has {len(dataset.classes)}, such as "
            f"{', '.join(list(dataset.classes)[:3])}; got {', '.join(map(repr, unknown[:5]))}: "
            "write them as the data does, or take them out"
        )
    return frozenset[str]().union(*(known[name] for name in names))


def _json_of(place: str, options: Options, default: str) -> tuple[Path, Path]:
    """The JSON and the folder of images."""
    path = Path(place)
    is_file = path.suffix == ".json" and not path.is_dir()
    folder = path.parent if is_file else path
    json = path if is_file else _first(folder, default, f"annotations/{default}")
    return json, Path(options.get("images", folder / coco.IMAGES))


def _coco(place: str, options: Options, tally: Tally) -> Dataset:
    return coco.read_coco(*_json_of(place, options, coco.INSTANCES), tally=tally)


def _objects365(place: str, options: Options, tally: Tally) -> Dataset:
    return coco.read_objects365(*_json_of(place, options, coco.INSTANCES), tally=tally)


def _lvis(place: str, options: Options, tally: Tally) -> Dataset:
    return read_lvis(*_json_of(place, options, coco.INSTANCES), tally=tally)


def _v3det(place: str, options: Options, tally: Tally) -> Dataset:
    json, images = _json_of(place, options, coco.V3DET_TRAIN)
    # V3Det's names of images begin with "images" themselves; a missing folder is left away.
    root = json.parent.parent if json.parent.name == "annotations" else json.parent
    images = Path(options["images"]) if "images" in options else root / coco.IMAGES
    tree = Path(options.get("tree", json.parent / coco.V3DET_TREE))
    return coco.read_v3det(json, images, tree, tally=tally)


def _open_images(place: str, options: Options, tally: Tally) -> Dataset:
    folder, split = Path(place), options.get("split", "train")

    def file(key: str, *names: str) -> Path:
        return Path(options[key]) if key in options else _first(folder, *names)

    labels = f"{split}-annotations-human-imagelabels"
    return read_open_images(
        OpenImagesFiles(
            boxes=file(
                "boxes", f"oidv6-{split}-annotations-bbox.csv", f"{split}-annotations-bbox.csv"
            ),
            labels=(
                file("labels", f"{labels}-boxable.csv", f"{labels}.csv", f"oidv6-{labels}.csv"),
            ),
            classes=file(
                "classes",
                "class-descriptions-boxable.csv",
                "oidv7-class-descriptions-boxable.csv",
                "oidv6-class-descriptions.csv",
            ),
            hierarchy=file("hierarchy", "bbox_labels_600_hierarchy.json"),
            images=file("images", split, coco.IMAGES),
        ),
        tally=tally,
    )


def _fiftyone(place: str, options: Options, tally: Tally) -> Dataset:
    return read_fiftyone(place, tally=tally, **options)


def _first(folder: Path, *names: str) -> Path:
    """The first of these that is there; the first of all where none is, for the message."""
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


# What the command line calls each kind, and the options it takes.
READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "coco": (_coco, ("images",)),
    "lvis": (_lvis, ("images",)),
    "objects365": (_objects365, ("images",)),
    "v3det": (_v3det, ("images", "tree")),
    "openimages": (
        _open_images,
        ("split", "boxes", "labels", "classes", "hierarchy", "images"),
    ),
    "fiftyone": (_fiftyone, ("field",)),
}
