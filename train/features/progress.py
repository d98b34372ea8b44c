"""Extraction as a person sees it: the disk need beforehand, then a bar for each tower."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from regionspot.config import ModelConfig
from regionspot.encoders import RegionPooler
from regionspot.errors import InputError
from train.data import AnnotatedImage
from train.features.cache import (
    TOWERS,
    FeatureSet,
    FeatureStore,
    ImageFeatures,
    Tower,
    feature_set,
)
from train.features.extract import check_space, extract_set
from train.features.skipped import SUFFIX

GIGABYTE = 1e9
LISTED = 20  # skipped images of a set


def extract_sets(
    sets: Mapping[str, FeatureSet], cache: Path, workers: int, console: Console
) -> None:
    """Compute what the cache lacks of several sets of images, after checking that it has room.

    Args:
        sets: by what a person calls them.

    Raises:
        InputError: the disk has less room than is needed, or no image of a set can be used.
    """
    needed, free = check_space(list(sets.values()), cache)
    for name, features in sets.items():
        images, regions = len(features.images), int(features.regions.sum())
        console.print(f"{name}: {images} images, {regions} boxes", highlight=False)
    console.print(
        f"to compute: {needed / GIGABYTE:.2f} GB; free on the disk: {free / GIGABYTE:.0f} GB",
        highlight=False,
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    skipped: dict[str, dict[int, str]] = {}
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        for name, features in sets.items():
            tasks = {
                tower: bar.add_task(f"{name}: {tower}", total=features.shard_count())
                for tower in TOWERS
            }

            def on_shard(
                tower: Tower, done: int, total: int, tasks: dict[Tower, TaskID] = tasks
            ) -> None:
                bar.update(tasks[tower], completed=done, total=total)

            skipped[name] = extract_set(features, workers, on_shard)
            if skipped[name] and len(skipped[name]) == len(features.images):
                raise InputError(
                    f"{name}: none of the {len(features.images)} images can be used, the first "
                    f"as {skipped[name][0]}; are the images where the data says?"
                )
    for name, reasons in skipped.items():
        for line in skipped_lines(name, sets[name], reasons):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def skipped_lines(name: str, features: FeatureSet, reasons: Mapping[int, str]) -> list[str]:
    """What a person is told of the images that were left out; the first of very many.

    Args:
        reasons: by the image's row.
    """
    if not reasons:
        return []
    lines = [f"{name}: {len(reasons)} of {len(features.images)} images skipped"]
    lines += [f"  {reasons[row]}" for row in sorted(reasons)[:LISTED]]
    if len(reasons) > LISTED:
        lines.append(f"  all of them: *{SUFFIX} in {features.folders['encoder']}")
    return [*lines, "  mend an image, and it is looked at the next time"]


def extract_with_progress(
    config: ModelConfig,
    images: Sequence[AnnotatedImage],
    cache: Path,
    workers: int,
    pooler: RegionPooler | None,
) -> list[ImageFeatures]:
    """Features of all images as they are, computed where the cache lacks them."""
    features = feature_set(config, images, cache)
    extract_sets({"images": features}, cache, workers, Console())
    return list(FeatureStore(features, pooler))
