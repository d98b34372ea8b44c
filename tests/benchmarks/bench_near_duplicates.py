"""Near-duplicates that `export --split` keeps in one part: how many altered copies are found.

pytest -s -o python_files="bench_*.py" tests/benchmarks/bench_near_duplicates.py --labelled DIR
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from autolabel import label
from autolabel.review.near_duplicates import near_duplicates
from autolabel.run.manifest import read_manifest
from autolabel.run.shards import read_shards
from tests.conftest import PHOTOS, photo_path

MOST_PHOTOS = 40
WORDS = ["person", "dog", "car", "chair"]


def cropped(photo: Image.Image, share: float, left: float = 0.5) -> Image.Image:
    """A window with a share of each side, from the left edge (0) to the right one (1)."""
    width, height = round(photo.width * share), round(photo.height * share)
    x, y = round((photo.width - width) * left), (photo.height - height) // 2
    return photo.crop((x, y, x + width, y + height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "halved": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.3),
    "grey": lambda photo: photo.convert("L").convert("RGB"),
    "cropped to 95%": lambda photo: cropped(photo, 0.95),
    "cropped to 85%": lambda photo: cropped(photo, 0.85),
    "panned by 5%": lambda photo: cropped(photo, 0.95, 0.0),
    "flipped": lambda photo: photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def test_altered_copies(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.config.getoption("--labelled")
    photos = sorted((Path(folder) / "images").iterdir()) if folder else map(photo_path, PHOTOS)
    images = tmp_path / "images"
    images.mkdir()
    chosen = list(photos)[:MOST_PHOTOS]
    for number, path in enumerate(chosen):
        photo = Image.open(path).convert("RGB")
        photo.save(images / f"{number} original.jpg", quality=95)
        photo.save(images / f"{number} quality 50.jpg", quality=50)
        for name, altered in COPIES.items():
            altered(photo).save(images / f"{number} {name}.jpg", quality=95)

    run = label(images, WORDS, out=tmp_path / "run", fiftyone=False, masks=False)
    shards = read_manifest(run.folder).shards
    pairs = [
        tuple(Path(name).stem.partition(" ")[::2] for name in pair)
        for pair in near_duplicates(read_shards(run.folder, shards))[1]
    ]
    for name in ["quality 50", *COPIES]:
        found = sum(
            one[0] == other[0] and {one[1], other[1]} == {"original", name} for one, other in pairs
        )
        print(f"{name}: {found} of {len(chosen)} are paired with their original")
    wrong = {(one[0], other[0]) for one, other in pairs if one[0] != other[0]}
    possible = len(chosen) * (len(chosen) - 1) // 2
    print(f"pairs of different photos that are taken for the same: {len(wrong)} of {possible}")
