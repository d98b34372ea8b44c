"""Label spaces of several data sets, merged by class name.

Classes of two data sets are the same where `regionspot.names.name_key` of their names agrees. Two
classes of one data set never are: of names like "A" and "a", which some data set tells apart, only
equal ones are the same. Ids say nothing: 1 is a person in COCO and an acorn in LVIS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from regionspot.names import contested_keys, name_key
from train.data.types import AnnotatedImage, Dataset, LazySequence


def join_synonyms(pairs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Classes with their synonyms, the name first; those of a class named twice are joined."""
    classes: dict[str, tuple[str, ...]] = {}
    for name, strings in pairs:
        classes[name] = tuple(dict.fromkeys((*classes.get(name, ()), name, *strings)))
    return classes


def names_of(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """`Dataset.written` of pairs of a name as it is written and its class."""
    found: dict[str, frozenset[str]] = {}
    for name, called in pairs:
        found[name] = found.get(name, frozenset()) | {called}
    return {name: classes for name, classes in found.items() if classes != {name}}


def merge_label_spaces(
    datasets: Sequence[Dataset],
) -> tuple[dict[str, tuple[str, ...]], list[Dataset]]:
    """One label space for several data sets, and the data sets in it.

    The first data set that has a class spells it. Synonyms are joined; they do not make two
    classes one, for LVIS lists "woman" under person, and Open Images has it as a class of its own.

    Returns:
        The classes with their synonyms, in the order of the data sets; and the data sets, with
        all names in that spelling. Where an image's `verified` is None, that still means the
        classes of its own data set.
    """
    contested = contested_keys(dataset.classes for dataset in datasets)

    def identity(name: str) -> tuple[str, str]:
        key = name_key(name)
        return key, name if key in contested else ""

    spelling: dict[tuple[str, str], str] = {}
    for dataset in datasets:
        for name in dataset.classes:
            spelling.setdefault(identity(name), name)
    renamed = [
        _renamed(dataset, {name: spelling[identity(name)] for name in dataset.classes})
        for dataset in datasets
    ]
    pairs = (pair for dataset in renamed for pair in dataset.classes.items())
    return join_synonyms(pairs), renamed


def _renamed(dataset: Dataset, new: Mapping[str, str]) -> Dataset:
    """The data set under the new name of each class, of which no two have the same."""
    if all(name == other for name, other in new.items()):
        return dataset
    return replace(
        dataset,
        classes=join_synonyms((new[name], strings) for name, strings in dataset.classes.items()),
        images=RenamedImages(dataset.images, new),
        ancestors={
            new[name]: frozenset(new[each] for each in above)
            for name, above in dataset.ancestors.items()
        },
        written={
            name: frozenset(new[each] for each in classes)
            for name, classes in dataset.written.items()
        },
    )


@dataclass(frozen=True)
class RenamedImages(LazySequence[AnnotatedImage]):
    """Images whose classes are renamed when they are asked for.

    Attributes:
        images: with the old names.
        new: the new name of each old one, all different; any other becomes "", which no data set
            has.
    """

    images: Sequence[AnnotatedImage]
    new: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.images)

    def _at(self, row: int) -> AnnotatedImage:
        image = self.images[row]
        verified = image.verified
        if verified is not None:
            verified = frozenset(self.new[name] for name in verified if name in self.new)
        return replace(
            image, names=tuple(self.new.get(name, "") for name in image.names), verified=verified
        )
