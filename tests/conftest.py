"""What every test stands on: a FiftyOne of its own, and real photos."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
from hypothesis import settings
from PIL import Image

from integrations.fiftyone.session import use_private_folder

# The tests need no hub; a library that would ask one has to fail here as it does offline.
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples in every run of `make test`; `make fuzz` draws others. The deadline ends a hang,
# and a loaded machine does not miss it.
settings.register_profile("seeded", derandomize=True, database=None, deadline=60_000)
settings.register_profile("random", database=None, deadline=60_000, print_blob=True)
settings.load_profile("seeded")

PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: FiftyOne reads its environment only once."""
    folder = Path(tempfile.mkdtemp(prefix="autolabel-tests-"))
    use_private_folder(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def photo_path(name: str) -> Path:
    """A photo that scikit-image's wheel carries, by the name of its file without suffix."""
    folder = Path(skimage.data.__file__).parent
    return next(path for path in folder.iterdir() if path.stem == name)


@pytest.fixture
def photo() -> Callable[[str], Image.Image]:
    """Any of these photos as RGB; the cat is `chelsea`."""
    return lambda name: Image.open(photo_path(name)).convert("RGB")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the photos of PHOTOS as JPEG files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in PHOTOS:
        Image.open(photo_path(name)).convert("RGB").save(folder / f"{name}.jpg", quality=95)
    return folder
