"""The images that a training of mini holds out, as a COCO file to choose constants on."""

from pathlib import Path

from integrations.formats.coco import read_coco, write_coco
from train.config import mini
from train.data.coco import load_coco
from train.data.registry import short_name
from train.sampler import held_out_images


def write_held_out(data: Path, out: Path, fraction: float) -> int:
    """Write the held-out images of a folder with their annotations.

    Args:
        data: folder that a head is trained on, with `instances.json` and `images/`.
        out: the COCO file.
        fraction: of the images that the training holds out.

    Returns:
        Number of images.

    Raises:
        InputError: the folder cannot be read.
    """
    images = load_coco(data)
    kept = held_out_images(len(images), fraction, mini().seed, short_name(str(data)))
    ids = {images[row].id for row in kept}
    labels = read_coco(data / "instances.json")
    write_coco(out, labels.categories, (each for each in labels.images if each.id in ids))
    return len(ids)
