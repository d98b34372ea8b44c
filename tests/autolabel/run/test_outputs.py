"""Writing labels takes the memory of a shard, however many images there are."""

import tracemalloc
from pathlib import Path

import numpy as np
import torch

from autolabel.options import Options
from autolabel.run.images import ImageRef
from autolabel.run.manifest import Manifest, RunFolder
from autolabel.run.outputs import Outputs
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import ImageRegions, write_shard
from regionspot import load_model
from regionspot.types import Proposals, Regions

SHARD = 32


def make_outputs(folder: Path, images: int) -> Outputs:
    """A run over images that do not exist, with random regions."""
    model = load_model("mini")
    nothing = model.scorer.no_regions()
    assert nothing.class_logits is not None
    width, classes = nothing.embedding.shape[1], nothing.class_logits.shape[1]
    random = np.random.default_rng(0)

    def image(number: int) -> ImageRegions:
        corner = random.random((20, 2), np.float32) * 500
        boxes = np.concatenate([corner, corner + 20], axis=1)
        embedding, logits = (
            torch.from_numpy(random.standard_normal((20, size), np.float32))
            for size in (width, classes)
        )
        return ImageRegions(
            ImageRef(number, f"{number}.jpg"),
            640,
            640,
            Proposals(boxes, np.ones(20, np.float32)),
            Regions(embedding, class_logits=logits),
        )

    shards = tuple(
        write_shard(folder, index, [image(index * SHARD + number) for number in range(SHARD)])
        for index in range(images // SHARD)
    )
    vocabulary = model.vocabulary(["cat", "dog"])
    manifest = Manifest(
        name="many",
        status="running",
        dataset={"kind": "folder", "root": str(folder), "images": images, "sha256": ""},
        vocabulary={"words": ["cat", "dog"], "synonyms": [["cat"], ["dog"]], "sha256": ""},
        options=Options(),
        model=model.provenance(),
        shards=shards,
    )
    labeller = Labeller(model, vocabulary, Options(presence_threshold=0))
    return Outputs(RunFolder(folder, manifest), labeller)


def peak_bytes(outputs: Outputs) -> int:
    tracemalloc.start()
    outputs.write_label_files()
    outputs.write_skipped([])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    few = peak_bytes(make_outputs(tmp_path / "few", 4 * SHARD))
    many = peak_bytes(make_outputs(tmp_path / "many", 24 * SHARD))
    assert (tmp_path / "many" / "labels.coco.json").stat().st_size > 2e6
    assert many < few + 700_000  # the interpreter's free lists; the labels would take megabytes
