"""Which image and which category of the predictions is which of the ground truth.

Images are paired by path, then by the end of the path that no other image of either file has; ids
number the images of one file and pair none, unless they are asked for. Categories are paired by
their name as it is written, then by spelling and synonym, one with one: two classes of one data set
never become one.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from integrations.annotations import Category, LabelledImage, class_labels
from regionspot.errors import InputError
from regionspot.names import contested_keys, name_key, without_brackets

MatchImages = Literal["path", "name", "id"]
LISTED = 3  # of many names in one line
NamePairs = tuple[tuple[str, str], ...]
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class ImageMatches:
    """Which image of the predictions is which of the ground truth.

    Attributes:
        predicted: for each ground-truth image the image of the predictions; None without one.
        counts: number of images that were paired by `path`, by `name` and by `id`.
        by_name: (predicted name, ground-truth name) of the images that a unique name paired.
        without_predictions: names of ground-truth images that no image of the predictions is.
        without_ground_truth: names of the predictions' images that are not in the ground truth.
        ambiguous: those of the two whose last part the other file has too, but not only once in
            either file.
        left_out: number of predictions in `without_ground_truth`.
    """

    predicted: tuple[LabelledImage | None, ...]
    counts: dict[str, int]
    by_name: NamePairs
    without_predictions: tuple[str, ...]
    without_ground_truth: tuple[str, ...]
    ambiguous: tuple[str, ...]
    left_out: int

    def described(self) -> list[str]:
        """What was paired by which, and what was not, each in a line with its number."""
        by = {"path": "path", "name": "unique file name", "id": "id"}
        equal = _quoted(self.by_name, "=")
        lines = [
            f"images paired by {by[kind]}: {count}"
            + (f" ({_first(equal)})" if kind == "name" else "")
            for kind, count in self.counts.items()
            if count
        ]
        lines += counted(
            "ground-truth images that the predictions do not list", self.without_predictions
        )
        lines += counted(
            "images of the predictions that are not in the ground truth",
            self.without_ground_truth,
            f"; left out with {self.left_out} predictions",
        )
        return lines + counted(
            "images not paired, as their file names are not unique", self.ambiguous
        )


@dataclass(frozen=True)
class ClassMatches:
    """Which category of the predictions is which of the ground truth.

    Attributes:
        ids: ground-truth category id by the predictions' category id; no two have the same.
        by_spelling: (predicted name, ground-truth name) of categories whose names are not equal,
            but two spellings of one.
        by_synonym: (predicted name, ground-truth name) of categories that only a synonym matches.
        kept_apart: (predicted name, ground-truth name) of an unmatched category and one that is
            alike, but not alone in that.
        unmatched_predicted: predicted names that match no ground-truth category.
        unmatched_ground_truth: ground-truth names that match no predicted category.
    """

    ids: dict[int, int]
    by_spelling: NamePairs
    by_synonym: NamePairs
    kept_apart: NamePairs
    unmatched_predicted: tuple[str, ...]
    unmatched_ground_truth: tuple[str, ...]

    def described(self) -> list[str]:
        """All pairs of names that are not equal, and what is alike but was kept apart."""
        return [
            f"{what}: {len(pairs)} ({', '.join(pairs)})"
            for what, pairs in (
                ("classes paired by spelling", _quoted(self.by_spelling, "=")),
                ("classes paired by synonym", _quoted(self.by_synonym, "=")),
                ("classes kept apart, though alike", _quoted(self.kept_apart, "and")),
            )
            if pairs
        ]


def _quoted(pairs: NamePairs, sign: str) -> list[str]:
    return [f'"{predicted}" {sign} "{own}"' for predicted, own in pairs]


def counted(what: str, names: Sequence[str], more: str = "") -> list[str]:
    """A line with the number of names and the first of them; none without a name."""
    return [f"{what}: {len(names)} ({_first(names)}){more}"] if names else []


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def match_images(
    images: Sequence[LabelledImage], predicted: Sequence[LabelledImage], by: MatchImages = "name"
) -> ImageMatches:
    """Match images that one and the same key stands for in either file, and only in them.

    Args:
        images: of the ground truth.
        predicted: of the predictions.
        by: `path`: file names with their folders; `name`: these, and then the longest end of the
            path that one image alone of each file has, at least the last part; `id`: ids alone.

    Raises:
        InputError: there are predictions, and none is of these images.
    """
    found: dict[int, LabelledImage] = {}  # by row of the ground truth
    counts, by_name = {"path": 0, "name": 0, "id": 0}, []
    for kind, our_keys, their_keys in _key_rounds(images, predicted, by):
        theirs = _unique(zip(their_keys, predicted, strict=True))
        ours = _unique((key, row) for row, key in enumerate(our_keys))
        for key, row in ours.items():
            if row not in found and key in theirs:
                found[row] = theirs[key]
                counts[kind] += 1
                if kind == "name":
                    by_name.append((theirs[key].file_name, images[row].file_name))
        if len(found) == len(images):
            break
    if predicted and not found:
        raise InputError(_nothing_in_common(images, predicted, by))
    paired = {id(each) for each in found.values()}
    ours_alone = [image for row, image in enumerate(images) if row not in found]
    theirs_alone = [image for image in predicted if id(image) not in paired]
    ambiguous = _ambiguous(ours_alone, predicted) + _ambiguous(theirs_alone, images)
    return ImageMatches(
        tuple(map(found.get, range(len(images)))),
        counts,
        tuple(by_name),
        tuple(image.file_name for image in ours_alone),
        tuple(image.file_name for image in theirs_alone),
        ambiguous if by == "name" else (),
        sum(len(image.annotations) for image in theirs_alone),
    )


def _key_rounds(
    images: Sequence[LabelledImage], predicted: Sequence[LabelledImage], by: MatchImages
) -> Iterator[tuple[MatchImages, Sequence[Hashable], Sequence[Hashable]]]:
    """The keys of all images of either, one after the other; None is no key."""
    if by == "id":
        yield "id", [image.id for image in images], [image.id for image in predicted]
        return
    ours, theirs = ([_parts(image) for image in each] for each in (images, predicted))
    yield "path", ours, theirs
    longest = min(max(map(len, each), default=0) for each in (ours, theirs))
    for count in range(longest if by == "name" else 0, 0, -1):
        one, other = (
            [parts[-count:] if len(parts) >= count else None for parts in each]
            for each in (ours, theirs)
        )
        yield "name", one, other


def _parts(image: LabelledImage) -> tuple[str, ...]:
    """The folders and the last part of an image's name, whichever system wrote it."""
    name = unicodedata.normalize("NFC", image.file_name).replace("\\", "/")
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _ambiguous(alone: Iterable[LabelledImage], others: Iterable[LabelledImage]) -> tuple[str, ...]:
    """Names of images whose last part is in the other file."""
    last = {_parts(image)[-1:] for image in others}
    return tuple(image.file_name for image in alone if _parts(image)[-1:] in last)


def _nothing_in_common(
    images: Sequence[LabelledImage], predicted: Sequence[LabelledImage], by: MatchImages
) -> str:
    if not images:
        return "ground truth and predictions have no image in common: the ground truth has none"
    if by == "name" and (unclear := _ambiguous(images, predicted)):
        return (
            "ground truth and predictions have no image in common by path or unique file name, and "
            f"{unclear[0]!r} could be several of the other file; name them alike, or say "
            "--match-images id if both files number images alike"
        )
    what = {"path": "path", "name": "path or unique file name", "id": "id"}[by]
    ours, theirs = images[0], predicted[0]
    examples = (ours.id, theirs.id) if by == "id" else (ours.file_name, theirs.file_name)
    mend = {
        "path": "match unique file names with --match-images name",
        "name": "name them alike, or say --match-images id if both files number images alike",
        "id": "leave --match-images out, so that names decide",
    }[by]
    return (
        f"ground truth and predictions have no image in common by {what}, such as {examples[0]!r} "
        f"and {examples[1]!r}; {mend}"
    )


def match_classes(ground_truth: Sequence[Category], predicted: Sequence[Category]) -> ClassMatches:
    """Match categories one with one.

    Where the predictions have the ground truth's own categories, as a list of results has, ids say
    which is meant. Otherwise names are compared as written, equal ones of one file by their
    supercategories too; then by `name_key`, where no two names of one file have the same; then by
    synonym, also without what LVIS adds in brackets ("bus" is "bus_(vehicle)"). A string that
    several categories of one file have decides nothing.
    """
    ours, theirs = class_labels(ground_truth), class_labels(predicted)
    rounds: list[dict[int, int]] = []
    matched: dict[int, int] = {}
    if has_own_categories(ground_truth, predicted):
        matched = {each.id: each.id for each in predicted}
    else:
        contested = contested_keys([each.name for each in cs] for cs in (ground_truth, predicted))
        keys: tuple[Callable[[Category], Collection[Hashable]], ...] = (
            lambda each: (each.name,),
            lambda each: ((each.name, each.supercategory),),
            lambda each: {name_key(each.name)} - contested,
            _strings,
        )
        for key in keys:
            rounds.append(_matched(ground_truth, predicted, key, matched))
            matched |= rounds[-1]
    spellings, synonyms = (
        tuple((theirs[id], ours[other]) for id, other in pairs.items())
        for pairs in rounds[2:] or ({}, {})
    )
    alone = [each for each in predicted if each.id not in matched]
    alike: dict[str, list[int]] = {}
    for category in ground_truth if alone else ():
        for text in _strings(category):
            alike.setdefault(text, []).append(category.id)
    apart = [
        (theirs[each.id], ours[other])
        for each in alone
        for other in sorted({id for text in _strings(each) for id in alike.get(text, ())})
    ]
    reached = set(matched.values())
    return ClassMatches(
        matched,
        spellings,
        synonyms,
        tuple(apart),
        tuple(theirs[each.id] for each in alone),
        tuple(ours[each.id] for each in ground_truth if each.id not in reached),
    )


def has_own_categories(ground_truth: Sequence[Category], predicted: Sequence[Category]) -> bool:
    """Whether the predictions' categories are some of the ground truth's, with their ids."""
    own = {(each.id, each.name, each.supercategory) for each in ground_truth}
    return all((each.id, each.name, each.supercategory) in own for each in predicted)


def _matched(
    ground_truth: Sequence[Category],
    predicted: Sequence[Category],
    keys: Callable[[Category], Collection[Hashable]],
    before: dict[int, int],
) -> dict[int, int]:
    """New matches of categories that only each other have a key in common with.

    Args:
        ground_truth: its categories.
        predicted: the predictions' categories.
        keys: of a category.
        before: the matches so far.
    """
    ours, theirs = (
        _unique((key, each.id) for each in categories for key in set(keys(each)))
        for categories in (ground_truth, predicted)
    )
    taken = set(before.values())
    pairs = dict.fromkeys(
        (theirs[key], other)
        for key, other in ours.items()
        if key in theirs and theirs[key] not in before and other not in taken
    )
    # A category that has something in common with each of two others is neither.
    counts, other_counts = Counter(id for id, _ in pairs), Counter(other for _, other in pairs)
    return {id: other for id, other in pairs if counts[id] == other_counts[other] == 1}


def _strings(category: Category) -> set[str]:
    strings = (category.name, *category.synonyms)
    bare = {without_brackets(text) for text in strings} - {""}
    return {name_key(text) for text in (*strings, *bare)}


def _unique(pairs: Iterable[tuple[Key | None, Item]]) -> dict[Key, Item]:
    """By key, but for the keys that several items have, and for None."""
    found: dict[Key, Item] = {}
    several = set[Key]()
    for key, item in pairs:
        if key is not None and key not in several:
            if key in found:
                del found[key]
                several.add(key)
            else:
                found[key] = item
    return found
