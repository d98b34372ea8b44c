"""`make demo`: label photos that installed packages contain, and print the sheet's path.

All output is below `.work/demo`, FiftyOne's database included.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from autolabel.cli.tables import print_run
from autolabel.run.manifest import CONTACT_SHEET
from autolabel.run.pipeline import run
from autolabel.run.plan import RunRequest
from integrations.output import Output
from regionspot.errors import InputError

FOLDER = Path(".work") / "demo"

# Package and file of each photo.
PHOTOS = {
    "cat": ("skimage", "data/chelsea.png"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "photographer": ("skimage", "data/camera.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "coins": ("skimage", "data/coins.png"),
    "admiral": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
}

WORDS = """\
# One word a line. Words after a colon mean the same.
person: man, woman
cat: kitten
dog
horse
bird
bicycle
motorcycle: motorbike
car
bench
chair
cup: coffee cup
bowl
spoon
bottle
clock
tie
# COCO has none of these.
saucer: plate
rocket: missile
flag
helmet
tripod
camera
tower
coin
hat
wheel
shelf
cardboard box
flower: blossom
temple: pagoda
"""


def main() -> None:
    """Write photos and words, label them, and print the counts and the contact sheet's path."""
    photos = write_photos(FOLDER / "photos")
    words = FOLDER / "words.txt"
    words.write_text(WORDS, encoding="utf-8")
    request = RunRequest(
        source=str(photos),
        words=words,
        out=FOLDER / "demo-run",
        database=FOLDER / "fiftyone",
        overwrite=True,
    )
    with Output() as output:
        with output.progress() as reporter:
            done = run(request, reporter)
        print_run(done, output)
    assert (done.folder / CONTACT_SHEET).exists()


def write_photos(folder: Path, names: Iterable[str] = PHOTOS) -> Path:
    """Write some of PHOTOS as JPEG files.

    Raises:
        InputError: a package that contains one is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        package, file = PHOTOS[name]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise InputError(f"the demo's photos need {package}: pip install '.[demo]'")
        with Image.open(Path(spec.origin).parent / file) as photo:
            photo.convert("RGB").save(folder / f"{name}.jpg", quality=92)
    return folder


if __name__ == "__main__":
    main()
