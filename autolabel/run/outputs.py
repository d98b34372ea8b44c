"""What a run leaves behind once its regions are there: label files, skipped list, FiftyOne."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolabel.options import REVIEW_CONFIDENCE, REVIEW_MARGIN
from autolabel.run.images import ImageRef, Omitted
from autolabel.run.manifest import COCO, LVIS, SKIPPED, Manifest
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import ImageRegions, read_shards
from integrations.annotations import Category, LabelledImage, vocabulary_categories
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.dataset import LabelField, Sample
from integrations.formats.coco import write_coco
from integrations.formats.lvis import write_lvis
from regionspot.files import atomic_write


@dataclass(frozen=True)
class Outputs:
    """Writes the labels of a run whose regions are complete. Each pass reads the shards anew."""

    folder: Path
    manifest: Manifest
    labeller: Labeller

    def labelled(self) -> Iterator[tuple[ImageRef, LabelledImage]]:
        """Every image that was not skipped, with its labels, in the dataset's order."""
        return self.labeller.label(self._regions())

    def _regions(self) -> Iterator[ImageRegions]:
        return read_shards(self.folder, self.manifest.shards)

    def write_label_files(self) -> dict[str, Any]:
        """Write the COCO and the LVIS file.

        Returns:
            The manifest's counts, but for `skipped`.
        """
        vocabulary = self.labeller.vocabulary
        categories = vocabulary_categories(vocabulary.names, vocabulary.synonyms)
        info = file_info(self.manifest)
        images = (image for _, image in self.labelled())
        tally = write_coco(self.folder / COCO, categories, images, info)
        write_lvis(self.folder / LVIS, categories, (image for _, image in self.labelled()), info)
        return {
            "images": self.manifest.dataset["images"],
            "labelled": tally.images,
            "labels": tally.annotations,
            "by_word": {each.name: tally.instances_of[each.id] for each in categories},
        }

    def write_skipped(self, omitted: Iterable[Omitted]) -> int:
        """Write the list of what was left out, and return how many that are."""
        count = 0
        with atomic_write(self.folder / SKIPPED) as out:
            for each in omitted:
                out.write(_line(dataclasses.asdict(each)))
                count += 1
            for image in self._regions():
                if image.skipped:
                    ref = image.image
                    out.write(
                        _line(
                            {
                                "file_name": ref.file_name,
                                "reason": image.skipped,
                                "image_id": ref.id,
                            }
                        )
                    )
                    count += 1
        return count

    def write_fiftyone(self, new_samples: bool) -> None:
        """Write the labels into the run's field, save its views and register it."""
        manifest = self.manifest
        assert manifest.fiftyone is not None
        target = label_field(manifest)
        if new_samples:
            fiftyone_dataset.make_dataset(target.dataset, self.folder.resolve())
        fiftyone_dataset.add_labels(
            target,
            ((as_sample(manifest, ref), image) for ref, image in self.labelled()),
            self.labeller.vocabulary.names,
            {
                "run": target.run_key,
                "model": manifest.options.model,
                "vocabulary": str(manifest.vocabulary["sha256"]),
            },
            new_samples,
        )
        views = fiftyone_dataset.save_views(target, REVIEW_CONFIDENCE, REVIEW_MARGIN)
        fiftyone_dataset.register_run(
            target,
            {
                "run_folder": str(self.folder.resolve()),
                "model": manifest.options.model,
                "provenance": dict(manifest.model),
                "vocabulary": dict(manifest.vocabulary),
                "options": dataclasses.asdict(manifest.options),
                "review_confidence": REVIEW_CONFIDENCE,
                "review_margin": REVIEW_MARGIN,
                "views": views,
            },
        )


def label_field(manifest: Manifest) -> LabelField:
    """Where in FiftyOne a run's labels are."""
    assert manifest.fiftyone is not None
    target = manifest.fiftyone
    return LabelField(target.dataset, target.label_field, target.run_key)


def as_sample(manifest: Manifest, ref: ImageRef) -> Sample:
    """How FiftyOne knows an image of a run."""
    return Sample(Path(manifest.dataset["root"]) / ref.file_name, ref.sample_id)


def file_info(manifest: Manifest) -> dict[str, str]:
    """The `info` of a label file: where its labels come from."""
    return {
        "description": f"Labels by autolabel, model {manifest.options.model}",
        "version": manifest.model["regionspot-autolabel"],
        "model": manifest.options.model,
        "head_sha256": manifest.model.get("head", ""),
        "vocabulary_sha256": str(manifest.vocabulary["sha256"]),
    }


def categories_of(manifest: Manifest) -> tuple[Category, ...]:
    """The categories of a run's label files."""
    return vocabulary_categories(manifest.vocabulary["words"], manifest.vocabulary["synonyms"])


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
