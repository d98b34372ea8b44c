"""Near-duplicates among the images of a run."""

import numpy as np
import torch

from autolabel.review.near_duplicates import near_duplicates
from autolabel.run.images import ImageRef
from autolabel.run.shards import ImageRegions, skipped_image
from regionspot.types import Proposals, Regions

WIDTH = 64


def image(name: str, seed: int, noise: float = 0.0, boxes: int = 5) -> ImageRegions:
    """Boxes and embeddings by a seed, with a little of other ones."""
    own, other = np.random.default_rng(seed), np.random.default_rng(hash(name) % 1000)
    corners = own.uniform(0, 0.5, (boxes, 2))
    xyxy = np.concatenate([corners, corners + 0.4], axis=1) * 100
    xyxy = (xyxy + other.normal(size=xyxy.shape) * noise * 10).astype(np.float32)
    embedding = own.normal(size=(boxes, WIDTH)) + other.normal(size=(boxes, WIDTH)) * noise
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    regions = Regions(torch.from_numpy(embedding.astype(np.float32)), (), np.zeros(0, np.float32))
    score = np.linspace(0.9, 0.3, boxes, dtype=np.float32)
    return ImageRegions(ImageRef(1, name, ""), 100, 100, Proposals(xyxy, score), regions)


def test_images_of_the_same_are_found() -> None:
    shown = [image("a", 1), image("b", 2), image("c", 1, 0.1), image("d", 3), image("e", 2, 0.1)]
    shown.append(skipped_image(ImageRef(9, "broken", ""), "no image", shown[0].regions))
    shown.append(image("empty", 4, boxes=0))
    names, pairs = near_duplicates(shown)
    assert names == ["a", "b", "c", "d", "e", "broken", "empty"]
    assert pairs == [("a", "c"), ("b", "e")]


def test_the_same_objects_elsewhere_are_no_duplicate() -> None:
    one, other = image("a", 1), image("b", 1)
    moved = ImageRegions(
        other.image, 200, 200, Proposals(one.proposals.boxes, one.proposals.score), other.regions
    )
    assert near_duplicates([one, moved])[1] == []
    assert near_duplicates([])[1] == []
