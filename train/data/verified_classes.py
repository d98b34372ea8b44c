"""Classes that are verified in each image of a federated data set.

A class may be a negative only where it is exhaustively labelled or verified to be absent (Gupta et
al. 2019, section 3, for LVIS; Kuznetsova et al. 2020, section 3, for Open Images).
"""

from array import array
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from integrations.annotations import Tally


class VerifiedClasses:
    """The verified classes of an image, by its id: filled with `add`, then closed by `finish`.

    Entries lie in flat arrays, of which LVIS has some 30 an image: 17 bytes each, or 11 where
    category ids fit into two bytes.

    Args:
        source: the file that the entries come from, for messages.
        typecode: of `array`, for category ids.
        tally: counts the entries that are left out.
    """

    # A class has boxes in the image, is absent, or there may be more of it than is labelled.
    BOXED, ABSENT, OPEN = range(3)

    def __init__(self, source: Path, typecode: str = "q", tally: Tally | None = None) -> None:
        self._source = source
        self._tally = tally or Tally()
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
        """Sort the entries by image; those of a category without a name are left out.

        Args:
            names: the class of each category id. Categories of one class verify it together: it
                is verified where all of them are.
            ancestors: of a category id, those in a hierarchy. What is absent has absent
                descendants, and what is open has open ancestors.
        """
        image, category = np.array(self._image, np.uint64), np.array(self._category)
        kind = np.array(self._kind)
        is_known = np.isin(category, list(names))
        # Boxes of such a category are counted where the boxes are.
        if (unknown := np.flatnonzero(~is_known & (kind != self.BOXED))).size:
            place = f"{self._source}: image_id {image[unknown[0]]}, category {category[unknown[0]]}"
            reason = "its category is not among the categories"
            self._tally.leave_out("verified class of an image", reason, place, unknown.size)
        known = np.flatnonzero(is_known)
        order = known[np.argsort(image[known], kind="stable")]
        self._images, self._categories, self._kinds = image[order], category[order], kind[order]
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
        kinds = self.BOXED, self.ABSENT, self.OPEN
        boxed, absent, open_ = (set(category[kind == each].tolist()) for each in kinds)
        absent = absent.union(*(self._descendants.get(each, ()) for each in absent))
        open_ = open_.union(*(self._ancestors.get(each, ()) for each in open_))
        closed = (boxed | absent) - open_
        found = {self._names[each] for each in closed}
        return frozenset(name for name in found if self._ids_of_shared.get(name, closed) <= closed)
