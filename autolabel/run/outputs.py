"""The outputs of a run whose regions are complete: label files, skipped list, FiftyOne."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from autolabel.options import REVIEW_CONFIDENCE, REVIEW_MARGIN, Options, validated
from autolabel.run.growth import EarlierRegions, grown_images
from autolabel.run.images import ImageRef, SkippedEntry
from autolabel.run.manifest import COCO, LVIS, SKIPPED, Counts, Manifest, RunFolder
from autolabel.run.postprocess import Labeller
from autolabel.run.shards import AGAIN, ImageRegions, read_shards
from integrations.annotations import Category, LabelledImage, vocabulary_categories
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.carrying import ReviewedLabels
from integrations.fiftyone.claims import claimed, release
from integrations.fiftyone.dataset import LabelField, Sample
from integrations.fiftyone.label_schema import set_label_schema
from integrations.fiftyone.merging import GrownImage, Merged, merge_labels
from integrations.formats.coco import write_coco
from integrations.formats.lvis import write_lvis
from integrations.vocabulary_file import own_thresholds
from regionspot.errors import InputError
from regionspot.files import atomic_write


@dataclass(frozen=True)
class Outputs:
    """Writes the labels of a run whose regions are complete; each pass reads the shards again.

    Attributes:
        reviewed: labels of another field that go into the run's own; None: none.
    """

    run: RunFolder
    labeller: Labeller
    reviewed: ReviewedLabels | None = None

    def labelled(
        self, left_out: Counter[str] | None = None
    ) -> Iterator[tuple[ImageRef, LabelledImage]]:
        """Every image that was not skipped, with its labels, in the source's order.

        Args:
            left_out: counts the labels of each background word.
        """
        return self.labeller.label(self._regions(), left_out)

    def _regions(self) -> Iterator[ImageRegions]:
        return read_shards(self.run.folder, self.run.manifest.shards)

    def write_label_files(self) -> Counts:
        """Write the COCO and the LVIS file.

        Returns:
            The manifest's counts, without `skipped`.
        """
        folder, manifest = self.run.folder, self.run.manifest
        categories, info = categories_of(manifest), file_info(manifest)
        left_out: Counter[str] = Counter()
        labelled = (each for _, each in self.labelled(left_out))
        tally = write_coco(folder / COCO, categories, labelled, info)
        write_lvis(folder / LVIS, categories, (each for _, each in self.labelled()), info)
        counts: Counts = {
            "images": manifest.dataset["images"],
            "labelled": tally.images,
            "labels": tally.annotations,
            "by_word": {each.name: tally.instances_of[each.id] for each in categories},
        }
        if background := manifest.vocabulary.get("background"):
            counts["background"] = {name: left_out[name] for name in background}
        return counts

    def write_skipped(self, entries: Iterable[SkippedEntry]) -> int:
        """Write `skipped.jsonl`: the given entries, and the images that failed.

        Returns:
            The number of lines.
        """
        failed = (
            SkippedEntry(each.image.file_name, each.skipped, each.image.id)
            for each in self._regions()
            if each.skipped
        )
        count = 0
        with atomic_write(self.run.folder / SKIPPED) as out:
            for entry in chain(entries, failed):
                count += 1
                record = {k: v for k, v in dataclasses.asdict(entry).items() if v is not None}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
        return count

    def write_fiftyone(self, new_samples: bool) -> Merged | None:
        """Write the labels into the run's field for review in the App, and register the run.

        Returns:
            What became of the images that are new or have changed, where the run has grown and its
            field was there; else None.
        """
        merged = None
        target, folder = label_field(self.run.manifest), self.run.folder.resolve()
        with claimed(target.dataset, target.field, str(folder)) as resumed:
            if self._grows_in_place(target):
                merged = self._grow_field(target, new_samples)
            else:
                if new_samples:
                    fiftyone_dataset.make_dataset(target.dataset, folder, resumed)
                self._write_field(target, new_samples)
            if self.reviewed is not None:
                self.run.update(carried=dataclasses.asdict(self.reviewed.carried))
            self._register(target, folder)
        return merged

    def _grows_in_place(self, target: LabelField) -> bool:
        """Whether the field holds the labels that the run had before it grew."""
        manifest = self.run.manifest
        has_grown = bool(manifest.earlier) and manifest.was_complete
        return has_grown and fiftyone_dataset.holds_run(target)

    def is_in_fiftyone(self) -> bool:
        """Whether all of the labels were written to FiftyOne already, and are registered there."""
        manifest = self.run.manifest
        return fiftyone_dataset.is_registered(label_field(manifest), manifest.started)

    def release_claim(self) -> None:
        """Release the claim of an earlier process that was killed once all labels were written."""
        target = label_field(self.run.manifest)
        release(target.dataset, target.field, str(self.run.folder.resolve()))

    def _provenance(self, target: LabelField) -> dict[str, str]:
        manifest = self.run.manifest
        return {
            "run": target.run_key,
            "model": manifest.options.model,
            "vocabulary": manifest.vocabulary["sha256"],
        }

    def _write_field(self, target: LabelField, new_samples: bool) -> None:
        manifest, names = self.run.manifest, self.labeller.names
        images = ((as_sample(manifest, ref), image) for ref, image in self.labelled())
        provenance = self._provenance(target)
        merge = self.reviewed.merge_all if self.reviewed else None
        fiftyone_dataset.add_labels(target, images, names, provenance, new_samples, merge)
        set_label_schema(target, names, owns_dataset=new_samples)

    def _grow_field(self, target: LabelField, new_samples: bool) -> Merged:
        """Write the labels of new and changed images alone."""
        names, provenance = self.labeller.names, self._provenance(target)
        return merge_labels(target, self._grown(), names, provenance, new_samples, self.reviewed)

    def _grown(self) -> Iterator[tuple[Sample, GrownImage]]:
        folder, manifest = self.run.folder, self.run.manifest
        grown = grown_images(folder, manifest)
        earlier = EarlierRegions(folder, manifest.earlier)
        for ref, image in self.labelled():
            if ref.id in grown:
                sample = as_sample(manifest, ref)
                before = self.labeller.label(earlier.all_of(sample.path))
                yield sample, GrownImage(image, tuple(each for _, each in before), grown[ref.id])

    def _register(self, target: LabelField, folder: Path) -> None:
        manifest = self.run.manifest
        cutoffs = review_confidences(manifest)
        views = fiftyone_dataset.save_views(target, REVIEW_CONFIDENCE, REVIEW_MARGIN, cutoffs)
        fiftyone_dataset.register_run(
            target,
            {
                "run_folder": str(folder),
                "started": manifest.started,
                "model": manifest.options.model,
                "provenance": dict(manifest.model),
                "vocabulary": dict(manifest.vocabulary),
                "options": dataclasses.asdict(manifest.options),
                "review_confidence": REVIEW_CONFIDENCE,
                "review_margin": REVIEW_MARGIN,
                "views": views,
            },
        )


def read_skipped(folder: Path) -> list[SkippedEntry]:
    """What a complete run left out.

    Raises:
        InputError: the list is missing, or a line of it is wrong.
    """
    path = folder / SKIPPED
    try:
        # Lines end with \n alone: a name may hold other separators.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {AGAIN}") from error
    return [_skipped_entry(line, f"{path}: line {n}") for n, line in enumerate(lines, 1) if line]


def _skipped_entry(line: str, where: str) -> SkippedEntry:
    return validated(SkippedEntry, line, lambda name: f"{where}: {name}")


def label_field(manifest: Manifest) -> LabelField:
    """Where in FiftyOne a run's labels are."""
    assert manifest.fiftyone is not None
    target = manifest.fiftyone
    return LabelField(target.dataset, target.label_field, target.run_key)


def as_sample(manifest: Manifest, ref: ImageRef) -> Sample:
    """How FiftyOne knows an image of a run."""
    return Sample(Path(manifest.dataset["root"]) / ref.file_name, ref.sample_id)


def review_confidences(manifest: Manifest) -> dict[str, float]:
    """The confidence below which a label needs review, of each word with its own threshold."""
    return {
        word: min(1.0, round(threshold + REVIEW_CONFIDENCE - Options.conf_threshold, 6))
        for word, threshold in thresholds_of(manifest).items()
    }


def thresholds_of(manifest: Manifest) -> dict[str, float]:
    """The minimum confidence of each word with its own."""
    return own_thresholds(manifest.vocabulary["words"], manifest.vocabulary.get("thresholds", []))


def file_info(manifest: Manifest) -> dict[str, str]:
    """The `info` of a label file: where its labels come from."""
    return {
        "description": f"Labels by autolabel, model {manifest.options.model}",
        "version": manifest.model["regionspot-autolabel"],
        "model": manifest.options.model,
        "head_sha256": manifest.model.get("head", ""),
        "vocabulary_sha256": manifest.vocabulary["sha256"],
    }


def categories_of(manifest: Manifest) -> tuple[Category, ...]:
    """The categories of a run's label files."""
    vocabulary = manifest.vocabulary
    categories = vocabulary_categories(vocabulary["words"], vocabulary["synonyms"])
    groups = vocabulary.get("groups") or [""] * len(categories)
    return tuple(
        dataclasses.replace(category, supercategory=group)
        for category, group in zip(categories, groups, strict=True)
    )
