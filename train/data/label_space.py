"""Label spaces of several data sets, merged by class name.

Two classes are the same where `regionspot.names.name_key` of their names agrees. Ids say nothing:
1 is a person in COCO and an acorn in LVIS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from regionspot.names import name_key
from train.data.types import AnnotatedImage, ClassSynonyms, Dataset, LazySequence


def join_synonyms(pairs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Classes with their synonyms, the name first; those of a class named twice are joined."""
    classes: dict[str, tuple[str, ...]] = {}
    for name, strings in pairs:
        classes[name] = tuple(dict.fromkeys((*classes.get(name, ()), name, *strings)))
    return classes


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
    spelling: dict[str, str] = {}
    for dataset in datasets:
        for name in dataset.classes:
            spelling.setdefault(name_key(name), name)
    renamed = [
        _renamed(dataset, {name: spelling[name_key(name)] for name in dataset.classes})
        for dataset in datasets
    ]
    pairs = (pair for dataset in renamed for pair in dataset.classes.items())
    return join_synonyms(pairs), renamed


def _renamed(dataset: Dataset, new: Mapping[str, str]) -> Dataset:
    if all(name == other for name, other in new.items()):
        return dataset
    ancestors: dict[str, frozenset[str]] = {}
    for name, above in dataset.ancestors.items():
        known = ancestors.get(new[name], frozenset())
        ancestors[new[name]] = known | {new[each] for each in above} - {new[name]}
    return replace(
        dataset,
        classes=join_synonyms((new[name], strings) for name, strings in dataset.classes.items()),
        images=RenamedImages(dataset.images, new, _merged(dataset.classes, new)),
        ancestors=ancestors,
    )


def _merged(classes: ClassSynonyms, new: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The old names of each new one that stands for several."""
    olds: dict[str, set[str]] = {}
    for name in classes:
        olds.setdefault(new[name], set()).add(name)
    return {name: frozenset(each) for name, each in olds.items() if len(each) > 1}


@dataclass(frozen=True)
class RenamedImages(LazySequence[AnnotatedImage]):
    """Images whose classes are renamed when they are asked for.

    Attributes:
        images: with the old names.
        new: the new name of each old one; any other becomes "", which no data set has.
        merged: the old names of each new one that stands for several; it is verified where all
            of them are.
    """

    images: Sequence[AnnotatedImage]
    new: Mapping[str, str]
    merged: Mapping[str, frozenset[str]]

    def __len__(self) -> int:
        return len(self.images)

    def _at(self, row: int) -> AnnotatedImage:
        image = self.images[row]
        verified = image.verified
        if verified is not None:
            olds: frozenset[str] = verified
            renamed = {self.new[name] for name in olds if name in self.new}
            verified = frozenset(n for n in renamed if self.merged.get(n, frozenset()) <= olds)
        return replace(
            image, names=tuple(self.new.get(name, "") for name in image.names), verified=verified
        )
