"""Where the images and the label files of a YOLO data set lie.

What describes the set, the first that is there:

    data.yaml            train, val, test: a folder, a list of images, or several of them; names
    *.data               darknet's and CVAT's: train = FILE, valid = FILE, names = FILE
    classes.txt, *.names a class name a line; the images lie anywhere below (labelImg, Label Studio)

The label file of an image has its name and .txt. It lies where the last folder `images` of the
path is replaced by `labels`, below `labels` beside `data.yaml`, or beside the image; of images that
lie elsewhere also beside what describes the set.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from integrations.annotations import Category, Tally
from integrations.image_kinds import SUFFIXES
from integrations.images import find_images
from integrations.text import read_yaml
from regionspot.errors import InputError
from regionspot.files import is_utf8, path_exists, path_inside, read_text

DATA, IMAGES, LABELS = "data.yaml", "images", "labels"
# FiftyOne looks for the second name.
_YAML_FILES = (DATA, "dataset.yaml", "data.yml", "dataset.yml")
_NAMES_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "data/obj.names")
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# How many folders below the data file's one named `labels` is looked for.
_DEEPEST = 4
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class DataFile:
    """What describes a data set.

    Attributes:
        path: of the file.
        names: of the classes, in their order.
        parts: entries of each part: folders, lists of images, single images.
        base: what entries are relative to, itself relative to the folder of the file.
        task: that the file states; empty where it does not.
        keypoints: number of keypoints and of numbers each; None where there are none.
        keypoint_names: of each class by its index, where the file has them.
    """

    path: Path
    names: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base: str = ""
    task: str = ""
    keypoints: tuple[int, int] | None = None
    keypoint_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that nothing may leave."""
        return self.path.parent

    def categories(self) -> tuple[Category, ...]:
        """The classes; ids count from 1."""
        return tuple(
            Category(
                index + 1,
                name,
                extra={"keypoints": list(self.keypoint_names[index])}
                if index in self.keypoint_names
                else {},
            )
            for index, name in enumerate(self.names)
        )


def read_data_file(path: Path, tally: Tally) -> DataFile:
    """Read what describes a data set.

    Args:
        path: of the file, or of the folder that holds it.
        tally: counts what is mended.

    Raises:
        InputError: there is no such file, or it does not hold together.
    """
    file = _data_file(path) if path.is_dir() else path
    if file.suffix == ".data":
        return _darknet(file)
    if file.suffix in (".txt", ".names", ".labels"):
        # The labels of `labels/classes.txt` and `data/obj.names` belong to the folder above.
        above = file.parent.parent if file.parent.name == LABELS else file.parent
        root = path if path.is_dir() else above
        return DataFile(root / file.name, _name_lines(file), {"all": (".",)})
    return _yaml(file, tally)


def _data_file(folder: Path) -> Path:
    def of_suffix(*suffixes: str) -> list[Path]:
        return sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.is_file())

    for name in _YAML_FILES:
        if (folder / name).is_file():
            return folder / name
    found = of_suffix(".yaml", ".yml")
    if len(found) > 1:
        raise InputError(f"{folder} holds several YAML files; give the one with the class names")
    found = found or of_suffix(".data")
    found = found or [folder / name for name in _NAMES_FILES if (folder / name).is_file()]
    found = found or of_suffix(".names", ".labels")
    if not found:
        raise InputError(
            f"{folder}: expected {DATA}, obj.data or classes.txt with the names of the classes; "
            "write one"
        )
    return found[0]


def _yaml(file: Path, tally: Tally) -> DataFile:
    top = read_yaml(file)
    if not isinstance(top, dict) or not {"names", "nc"} & top.keys():
        raise InputError(f'{file} is no data.yaml: expected "names"')
    parts: dict[str, tuple[str, ...]] = {}
    for key, part in _PARTS.items():
        entries = _entries(file, key, top.get(key))
        parts[part] = parts.get(part, ()) + entries
    base = top.get("path")
    return DataFile(
        file,
        _names(file, top, tally),
        {part: entries for part, entries in parts.items() if entries},
        base if isinstance(base, str) and base not in _NOTHING else "",
        str(top.get("task") or ""),
        _keypoint_shape(file, top.get("kpt_shape")),
        _keypoint_names(top.get("kpt_names")),
    )


def _entries(file: Path, key: str, entry: object) -> tuple[str, ...]:
    entries = entry if isinstance(entry, list) else [entry]
    texts = [each for each in entries if isinstance(each, str)]
    if len(texts) != len(entries) and entries != [None]:
        raise InputError(f'{file}: "{key}" must be a folder, a list of images, or several of them')
    return tuple(each for each in texts if each not in _NOTHING)


def _names(file: Path, top: Mapping[str, object], tally: Tally) -> tuple[str, ...]:
    names, count = top.get("names"), top.get("nc")
    number = int(count) if isinstance(count, str) and count.isdecimal() and len(count) < 6 else None
    if names is None and number is not None:
        return tuple(f"class_{index}" for index in range(number))
    if isinstance(names, str) and (file.parent / names).is_file():
        return _name_lines(path_inside(file.parent, names))
    listed = {str(i): each for i, each in enumerate(names)} if isinstance(names, list) else names
    if not isinstance(listed, dict) or set(map(str, listed)) != set(map(str, range(len(listed)))):
        raise InputError(f'{file}: "names" must be a list, or count its classes 0, 1, 2, ...')
    by_index = {int(key): name for key, name in listed.items()}
    found = []
    for index in range(len(by_index)):
        if isinstance(by_index[index], list | dict | tuple | set):
            raise InputError(f'{file}: "names": the name of class {index} must be a text')
        name = "" if by_index[index] is None else str(by_index[index])
        if not name.strip():
            tally.change("class", "it has no name and is called by its number", str(file))
        found.append(name if name.strip() else f"class_{index}")
    if count is not None and number != len(found):
        tally.change("nc", "it is not the number of the names, which are taken", str(file))
    return tuple(found)


def _keypoint_shape(file: Path, shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    texts = [str(each) for each in shape] if isinstance(shape, list) else []
    if len(texts) != 2 or not texts[0].isdecimal() or texts[1] not in ("2", "3"):
        raise InputError(f'{file}: "kpt_shape" must be [number of keypoints, 2 or 3]')
    if not 0 < len(texts[0]) < 6 or int(texts[0]) < 1:
        raise InputError(f'{file}: "kpt_shape" must be [number of keypoints, 2 or 3]')
    return int(texts[0]), int(texts[1])


def _keypoint_names(names: object) -> dict[int, tuple[str, ...]]:
    if not isinstance(names, dict):
        return {}
    return {
        int(str(key)): tuple(map(str, value))
        for key, value in names.items()
        if str(key).isdecimal() and len(str(key)) < 6 and isinstance(value, list)
    }


def _name_lines(file: Path) -> tuple[str, ...]:
    names = [line.strip() for line in read_text(file).split("\n")]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise InputError(f"{file}: expected the name of a class on every line")
    return tuple(names)


def _darknet(file: Path) -> DataFile:
    values = {}
    for line in read_text(file).split("\n"):
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            values[key.strip()] = value.strip()
    if not values.get("names"):
        raise InputError(f"{file}: expected `names = FILE`")
    names = find_below(file.parent, "", values["names"], f"{file}: names", any_end=True)
    if names is None or not names.is_file():
        raise InputError(f"{file}: names: {values['names']} is not there")
    parts = {part: (values[key],) for key, part in _PARTS.items() if values.get(key)}
    return DataFile(file, _name_lines(names), parts or {"all": (".",)})


def find_below(
    root: Path,
    base: str,
    entry: str,
    where: str,
    tally: Tally | None = None,
    any_end: bool = False,
) -> Path | None:
    """What an entry of a data file names below a folder; None where it is not there.

    A leading `../` that leads nowhere is dropped, as trainers do for Roboflow's exports. Of an
    absolute path of another machine, the longest end that is there is taken, and counted. With
    `any_end` that holds for every path: some tools write them relative to where they are started.

    Raises:
        InputError: it leaves the folder.
    """
    text = entry.strip()
    if "\0" in text or not is_utf8(text):
        raise InputError(f"{where}: {entry!r} is not the name of a file")
    joined = PurePosixPath(base, text)
    if "\\" in str(joined) and not path_exists(root / joined):
        joined = PurePosixPath(str(joined).replace("\\", "/"))
    is_absolute = joined.is_absolute() or PureWindowsPath(joined).drive != ""
    top = os.path.abspath(root)  # noqa: PTH100  (links stay as they are)
    target = os.path.normpath(os.path.join(top, joined))  # noqa: PTH118
    if target == top or target.startswith(top.rstrip("/") + "/"):
        name = os.path.relpath(target, top)
        if os.path.exists(target):  # noqa: PTH110
            return _checked(root, name, where)
        leaves = False
    else:
        leaves = True
    is_there = leaves and os.path.exists(target)  # noqa: PTH110
    names = [part for part in joined.parts if part not in ("/", "//", "..", ".")]
    # Roboflow's: one step up to a folder that is beside the file.
    is_roboflow = joined.parts[:1] == ("..",) and joined.parts[-1] == IMAGES
    # Inside of the folder only `path` may be wrong: trainers keep their data sets elsewhere.
    in_base = len([part for part in PurePosixPath(base).parts if part not in ("..", ".")])
    ends = range(len(names) if is_absolute or any_end else in_base + 1)
    for start in ends if not is_there else ():
        if path_exists(root.joinpath(*names[start:])) and names[start:]:
            if tally is not None and (is_absolute or (start and not any_end)):
                reason = "it is not there; its end is, below the folder of the file"
                tally.change("path", reason, where)
            return _checked(root, "/".join(names[start:]), where)
    if leaves and (is_there or not (is_roboflow or is_absolute)):
        raise InputError(
            f"{where}: {entry!r} leaves the folder of the file; move the file above what it names, "
            "or give the images' folder with --images"
        )
    return None


def _checked(root: Path, name: str, where: str) -> Path:
    if name == ".":
        return root
    try:
        return path_inside(root, name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def listed_images(data: DataFile, tally: Tally) -> list[Path]:
    """The images of all parts in their order, each once.

    Raises:
        InputError: an entry leaves the folder, or none is there.
    """
    if not data.parts:
        raise InputError(f'{data.path}: expected "train" or "val" with a folder of images')
    found: dict[Path, None] = {}
    missing, entries = [], dict.fromkeys((e, p) for p, each in data.parts.items() for e in each)
    read: set[Path] = set()
    for entry, part in entries:
        where = f"{data.path}: {part}"
        is_darknet = data.path.suffix == ".data"
        path = find_below(data.root, data.base, entry, where, tally, is_darknet)
        if path is None:
            missing.append((entry, where))
        elif path not in read:
            read.add(path)
            for image in _images_of(path, data, where, tally):
                if image in found:
                    reason = "it is in several parts or twice in a list, and is read once"
                    tally.change("image", reason, f"{where}: {image}")
                found[image] = None
    if missing and not read:
        entry, where = missing[0]
        raise InputError(
            f"{where}: {entry} is not there, nor below {data.root}; give the images' folder with "
            "--images"
        )
    for entry, where in missing:
        tally.leave_out("part of the data set", "its folder is not there", f"{where}: {entry}")
    return list(found)


def _images_of(path: Path, data: DataFile, where: str, tally: Tally) -> Iterator[Path]:
    if path.is_dir():
        yield from images_below(path, tally)
    elif path.suffix.lower() in SUFFIXES:
        yield path
    elif path.suffix == ".txt":
        yield from _list_of_images(path, data, tally)
    else:
        raise InputError(f"{where}: {path} is neither a folder nor a .txt list of images")


def _list_of_images(file: Path, data: DataFile, tally: Tally) -> Iterator[Path]:
    beside = file.parent.relative_to(data.root).as_posix()
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        text, where = line.strip(), f"{file}: line {number}"
        if not text:
            continue
        image = None
        for base in dict.fromkeys((beside, data.base)):
            is_last = base == data.base
            if not is_last and not path_exists(data.root / base / text):
                continue
            image = image or find_below(data.root, base, text, where, tally, any_end=True)
        if image is None or not path_exists(image) or not image.is_file():
            tally.leave_out("image", "it is listed but not there", f"{where}: {text}")
        else:
            yield image


def images_below(folder: Path, tally: Tally) -> tuple[Path, ...]:
    """The images below a folder; those that cannot be followed are counted as left out."""
    listing = find_images(folder, linked=True)
    for skipped in listing.skipped:
        tally.leave_out("image", skipped.reason, str(skipped.path))
    return listing.images


def label_files(image: Path, folder: Path, root: Path) -> list[Path]:
    """Where the label file of an image may lie, in the order in which it is looked for.

    Args:
        image: below `folder` or `root`.
        folder: of the images.
        root: of the data set.
    """
    places: list[Path] = []
    top = root if image.is_relative_to(root) else folder
    parts = image.relative_to(top).parts
    folders = parts[:-1]
    if IMAGES in folders:
        last = len(folders) - 1 - folders[::-1].index(IMAGES)
        places.append(top.joinpath(*folders[:last], LABELS, *parts[last + 1 :]))
    if image.is_relative_to(folder):
        places.append(root / LABELS / image.relative_to(folder))
    whole = Path(os.path.abspath(image)).parts  # noqa: PTH100
    if IMAGES not in folders and IMAGES in whole[:-1]:
        last = len(whole) - 2 - whole[:-1][::-1].index(IMAGES)
        places.append(Path(*whole[:last], LABELS, *whole[last + 1 :]))
    if image.is_relative_to(folder) and not image.is_relative_to(root):
        places.append(root / image.relative_to(folder))
    places.append(image)
    return list(dict.fromkeys(place.with_suffix(".txt") for place in places))


def unread_label_files(read: Sequence[Path], root: Path) -> Iterator[Path]:
    """Files with labels that were not read, in order.

    They lie beside those that were, or in `labels` or a folder named as a part of the data set:
    the data file may not name each part that is there.
    """
    folders = {file.parent for file in read} | set(_label_folders(root))
    known = {os.path.realpath(file) for file in read}
    for folder in sorted(folders):
        for file in sorted(folder.glob("*.txt")):
            if os.path.realpath(file) not in known and _has_labels(file):
                yield file


def _label_folders(root: Path) -> Iterator[Path]:
    """Folders below the data set's where the layouts have label files."""
    for parent, folders, _ in os.walk(root):
        parts = Path(parent).relative_to(root).parts
        # `runs` are predictions that ultralytics' commands wrote.
        folders[:] = [each for each in folders if each[0] != "." and each != "runs"]
        if len(parts) >= _DEEPEST and LABELS not in parts:
            folders.clear()
        if any(each.lower() in (LABELS, *_PARTS) for each in parts):
            yield Path(parent)


def _has_labels(file: Path) -> bool:
    try:
        fields = read_text(file).split(None, 5)[:5]
        return len([float(each) for each in fields]) == 5
    except ValueError:  # InputError is one
        return False
