"""Which classes are verified in each image of a federated data set.

A class may be a negative only where it is exhaustively labelled or verified to be absent (Gupta et
al. 2019, section 3, for LVIS; Kuznetsova et al. 2020, section 3, for Open Images).
"""

from array import array
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from regionspot.errors import InputError

# What an entry says of a class in an image: it has boxes, it is absent, or there may be more of it
# than is labelled.
BOXED, ABSENT, OPEN = range(3)


class VerifiedClasses:
    """The verified classes of an image, by its id: filled with `add`, then closed by `finish`.

    Entries lie in flat arrays, of which LVIS has some 30 an image: 17 bytes each, or 11 where
    category ids fit into two bytes.

    Args:
        source: the file that the entries come from, for messages.
        typecode: of `array`, for category ids.
    """

    def __init__(self, source: Path, typecode: str = "q") -> None:
        self._source = source
        self._image: array[int] = array("Q")
        self._category: array[int] = array(typecode)
        self._kind: array[int] = array("b")

    def add(self, image_id: int, category_id: int, kind: int) -> None:
        """Add what is known of a category in an image: BOXED, ABSENT or OPEN."""
        self._image.append(image_id)
        self._category.append(category_id)
        self._kind.append(kind)

    def finish(
        self, names: Mapping[int, str], ancestors: Mapping[int, frozenset[int]] | None = None
    ) -> "VerifiedClasses":
        """Sort the entries by image.

        Args:
            names: the class of each category id. Categories of one class verify it together: it
                is verified where all of them are.
            ancestors: of a category id, those in a hierarchy. What is absent has absent
                descendants, and what is open has open ancestors.

        Raises:
            InputError: an entry is of a category that has no name.
        """
        image = np.array(self._image, np.uint64)
        order = np.argsort(image, kind="stable")
        self._images = image[order]
        self._categories = np.array(self._category)[order]
        self._kinds = np.array(self._kind)[order]
        unknown = self._categories[~np.isin(self._categories, list(names))]
        if unknown.size:
            raise InputError(
                f"{self._source}: an image says something of the category {unknown[0]}, "
                "which is not among the categories; add the category"
            )
        self._names = names
        ids_of: dict[str, set[int]] = {}
        for category_id, name in names.items():
            ids_of.setdefault(name, set()).add(category_id)
        self._ids_of_shared = {name: ids for name, ids in ids_of.items() if len(ids) > 1}
        self._ancestors = ancestors or {}
        self._descendants: dict[int, set[int]] = {}
        for category_id, above in self._ancestors.items():
            for each in above:
                self._descendants.setdefault(each, set()).add(category_id)
        return self

    def __call__(self, image_id: int) -> frozenset[str]:
        """The classes that may be negatives in an image."""
        key = np.uint64(image_id)
        rows = slice(
            np.searchsorted(self._images, key), np.searchsorted(self._images, key, "right")
        )
        category, kind = self._categories[rows], self._kinds[rows]
        boxed, absent, open_ = (set(category[kind == k].tolist()) for k in (BOXED, ABSENT, OPEN))
        absent = absent.union(*(self._descendants.get(each, ()) for each in absent))
        open_ = open_.union(*(self._ancestors.get(each, ()) for each in open_))
        closed = (boxed | absent) - open_
        found = {self._names[each] for each in closed}
        return frozenset(name for name in found if self._ids_of_shared.get(name, closed) <= closed)
