"""Training, validation and test parts of a data set.

An image's part follows from a hash of its group and a seed, so that further images move none: a
group is named by its first member. Images that show the same belong to one group, or a detector
would be validated on what it was trained on.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath

from PIL import ExifTags, Image

from regionspot.errors import InputError

PARTS = ("train", "val", "test")
_LEAST = 1e-9
# Pictures of one burst, in seconds.
_BURST = 2.0
# Roboflow's `cat_jpg.rf.0a1b`, copies of file managers: `cat (1)`, `cat - Copy`, `cat_copy2`.
_COPY = re.compile(
    r"(_(jpe?g|png|webp|bmp))?\.rf\.[0-9a-zA-Z]+$|\s*\(\d+\)$|[\s_-]+copy\s*\d*$", re.IGNORECASE
)


@dataclass(frozen=True)
class Split:
    """Which part of a data set an image belongs to.

    Attributes:
        shares: of train, val and test; they add up to 1.
        seed: another one gives other parts.
        groups: the group of each file name; without one, its stem is the group.
    """

    shares: tuple[float, float, float] = (0.8, 0.2, 0.0)
    seed: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are."""
        return tuple(part for part, share in zip(PARTS, self.shares, strict=True) if share > 0)

    def part(self, file_name: str) -> str:
        """The part of an image."""
        group = self.groups.get(file_name) or stem(file_name)
        digest = hashlib.sha256(f"{self.seed}\0{group}".encode()).digest()
        place, end = int.from_bytes(digest[:8], "big") / 2**64, 0.0
        for part, share in zip(PARTS, self.shares, strict=True):
            end += share
            if place < end:
                return part
        return self.parts[-1]


def parse_shares(text: str) -> tuple[float, float, float]:
    """The shares that `--split` gives: of train, or of train and val; the rest is the last part.

    Raises:
        InputError: they are not such numbers.
    """
    try:
        shares = [float(each) for each in text.split(",")]
    except ValueError:
        shares = []
    rest = 1 - sum(shares)
    if len(shares) in (1, 2) and rest > _LEAST:
        shares.append(rest)
    is_split = len(shares) in (2, 3) and all(_LEAST < each < 1 for each in shares)
    if not is_split or abs(sum(shares) - 1) > _LEAST:
        raise InputError(
            f"--split must be the share of train (0.8), or of train and val (0.8,0.1), got {text}"
        )
    train, val, test = (*shares, 0.0)[:3]
    return train, val, test


def stem(file_name: str) -> str:
    """The name of a file without folders and suffix, and without what marks it as a copy."""
    name, before = PurePosixPath(file_name).stem, ""
    while name != before:
        before, name = name, _COPY.sub("", name) or name
    return name


def group_images(
    file_names: Sequence[str],
    folder: Path | None = None,
    alike: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """The group of each image: images of one stem, of one burst, or that look alike.

    Args:
        file_names: of all images.
        folder: of the images, for the time at which they were taken; None: it is not known.
        alike: pairs of file names.
    """
    leader = {name: name for name in file_names}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    by_stem: dict[str, str] = {}
    pairs = [(by_stem.setdefault(stem(name), name), name) for name in sorted(file_names)]
    taken = sorted(
        (camera, time, name)
        for name in (file_names if folder is not None else ())
        for camera, time in _taken(folder / name if folder else Path(name))
    )
    pairs += [
        (one[2], other[2])
        for one, other in pairwise(taken)
        if one[0] == other[0] and other[1] - one[1] <= _BURST
    ]
    for one, other in (*pairs, *alike):
        # The first name leads, so that later ones change no group's name.
        first, second = sorted((find(one), find(other)))
        leader[second] = first
    return {name: stem(find(name)) for name in file_names}


def _taken(path: Path) -> list[tuple[str, float]]:
    """Camera, and seconds of the time at which a picture was taken; empty where it does not say."""
    try:
        with Image.open(path) as image:
            exif = Image.Image.getexif(image)
            text = str(exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal, ""))
            camera = f"{exif.get(ExifTags.Base.Make)} {exif.get(ExifTags.Base.Model)}"
        return [(camera, datetime.strptime(text, "%Y:%m:%d %H:%M:%S").timestamp())]
    except Exception:  # what a broken file holds decides no more than its name does
        return []
