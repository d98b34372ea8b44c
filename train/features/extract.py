"""Runs the frozen towers over images, in parallel, and writes their features into the cache.

A shard is written atomically, so a killed extraction resumes where it stopped and ends with the
same bytes. A broken image is skipped, and tried again once its file has changed.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import torch

from integrations.annotations import Tally
from integrations.cluster.ray_pool import RayPool
from integrations.images import UnreadableImage, check_stated_size, read_image
from integrations.progress import Reporter
from regionspot.config import ModelConfig, fast_dtype
from regionspot.devices.runtime import Runtime, build_runtime
from regionspot.encoders import VisionLanguageEncoder, build_encoder
from regionspot.errors import InputError
from regionspot.files import remove_leftovers
from regionspot.localizers.sam import SamLocalizer, build_sam
from regionspot.types import ImageArray
from train.data.dataset import AnnotatedImage
from train.features.augment import View
from train.features.cache import FeatureSet, FeatureStore, ImageFeatures, Tower, write_shard

MAX_LISTED = 20  # skipped images of a set
Extractor = Callable[[ImageArray, AnnotatedImage], dict[str, torch.Tensor]]
ShardTask = tuple[Sequence[AnnotatedImage], Path]  # images of a shard, and its file


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes and reads features of original images.

    Attributes:
        encoder: of all models that features are asked for; computes the priors.
        cache: folder of features.
        workers: processes for the frozen towers.
        tally: counts the images that are skipped by calls.
    """

    encoder: VisionLanguageEncoder
    cache: Path
    workers: int
    reporter: Reporter
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        cache: Path,
        workers: int,
        reporter: Reporter,
        tally: Tally | None = None,
    ) -> "FeatureExtractor":
        """For a model, whose encoder's text and classifier are built here once."""
        encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
        return cls(encoder, cache, workers, reporter, tally or Tally())

    def __call__(
        self, config: ModelConfig, images: Sequence[AnnotatedImage], name: str = "images"
    ) -> list[ImageFeatures]:
        """Features of images, computed where the cache lacks them; as `FeatureStore`.

        Args:
            config: whose towers are run.
            images: with boxes.
            name: of the images in reports.

        Raises:
            InputError: as of `extract_sets`.
        """
        features = FeatureSet.of(config, images, self.cache)
        extract_sets({name: features}, self.cache, self.workers, self.reporter, self.tally)
        return list(FeatureStore(features, self.encoder))

    def some(
        self, config: ModelConfig, images: Sequence[AnnotatedImage]
    ) -> tuple[dict[int, ImageFeatures], dict[int, str]]:
        """As a call, though all images may be broken.

        Returns:
            Features and the reasons for skipped images, both by the image's row.
        """
        features = FeatureSet.of(config, images, self.cache)
        skipped = extract(features, self.workers, self.reporter)
        store = FeatureStore(features, self.encoder)
        return dict(zip(store.image_of.tolist(), store, strict=True)), skipped


def extract_sets(
    sets: Mapping[str, FeatureSet],
    cache: Path,
    workers: int,
    reporter: Reporter,
    tally: Tally | None = None,
    pool: RayPool | None = None,
) -> None:
    """Compute what the cache lacks of several sets of images, after checking the free space.

    Args:
        sets: by the name they are reported under.
        cache: folder of the features.
        workers: processes, each with one thread.
        reporter: receives the progress.
        tally: counts the images that are skipped.
        pool: of Ray's actors, instead of the processes.

    Raises:
        InputError: the disk has less room than is needed, or no image of a set can be used.
    """
    needed, free = check_space(list(sets.values()), cache)
    for name, features in sets.items():
        images, regions = len(features.images), int(features.regions.sum())
        reporter.message(f"{name}: {images} images, {regions} boxes")
    reporter.message(f"to compute: {needed / 1e9:.2f} GB; free on the disk: {free / 1e9:.0f} GB")
    for name, features in sets.items():
        skipped = extract(features, workers, reporter, name, pool)
        if skipped and len(skipped) == len(features.images):
            raise InputError(
                f"{name}: none of the {len(features.images)} images can be used, the first "
                f"as {skipped[0]}; are the images where the annotations expect them?"
            )
        if skipped:
            if tally is not None:
                reason = "it cannot be read, or has another size than annotated"
                tally.leave_out("image", reason, skipped[min(skipped)], len(skipped))
            reporter.message(f"{name}: {len(skipped)} of {len(features.images)} images skipped")
            for row in sorted(skipped)[:MAX_LISTED]:
                reporter.message(f"  {skipped[row]}")
            if len(skipped) > MAX_LISTED:
                folder = features.folders["encoder"]
                reporter.message(f"  all of them: *{features.SKIPPED} in {folder}")
            reporter.message("  mend an image, and it is tried again the next time")


def extract(
    features: FeatureSet,
    workers: int,
    reporter: Reporter,
    name: str = "images",
    pool: RayPool | None = None,
) -> dict[int, str]:
    """Run both towers over all images of the shards that the cache lacks.

    Args:
        features: images and the folders of their features.
        workers: processes, each with one thread.
        reporter: receives the progress.
        name: of the set in progress reports.
        pool: of Ray's actors, instead of the processes.

    Returns:
        Why images were skipped, by their row: they cannot be read, or have another size than their
        annotation says. Those that an earlier extraction skipped are among them.
    """
    with _one_thread_each():
        for tower in features.folders:
            _extract_tower(features, tower, workers, reporter, name, pool)
    return features.skipped()


def check_space(sets: Sequence[FeatureSet], cache: Path) -> tuple[int, int]:
    """The bytes that extractions need and the bytes that are free where the cache lies.

    Raises:
        InputError: less is free than is needed.
    """
    needed = sum(each.bytes_needed() for each in sets)
    there = next(
        folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists()
    )
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"the features need {needed / 1e9:.1f} GB and {cache} has {free / 1e9:.1f} GB free; "
            "make room, choose another --cache, or take less data or fewer views"
        )
    return needed, free


def _extract_tower(
    features: FeatureSet,
    tower: Tower,
    workers: int,
    reporter: Reporter,
    name: str,
    pool: RayPool | None,
) -> None:
    folder = features.folders[tower]
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    total, missing = features.shard_count(), features.missing(tower)
    if not missing:
        return
    reporter.start(f"{name}: {tower}", total, total - len(missing))
    shards = ((features.shard_images(n), features.shard_path(tower, n)) for n in missing)
    if pool is not None:
        build = partial(ShardExtractor, features.config, tower, features.view, features.runtime)
        tasks = dict(enumerate(map(_absolute, shards)))
        for _ in pool.map(build, tasks, str(folder), reporter):
            reporter.advance()
        return
    with ProcessPoolExecutor(
        min(workers, len(missing)),
        get_context("spawn"),
        initializer=_start_worker,
        initargs=(features.config, tower, features.view, features.runtime),
    ) as processes:
        running = (_submitted(processes, each) for each in shards)
        try:
            for _ in _few_at_a_time(running, 2 * workers):
                reporter.advance()
        except KeyboardInterrupt:
            for worker in active_children():  # which would finish their shards first
                worker.terminate()
            raise


def _absolute(shard: ShardTask) -> ShardTask:
    """With the paths that processes which stand in another folder need."""
    images, path = shard
    return [replace(each, path=each.path.absolute()) for each in images], path.absolute()


def _submitted(processes: ProcessPoolExecutor, shard: ShardTask) -> "Future[None]":
    """A task for a worker, which is started here if there are too few.

    Ctrl-C in a terminal reaches all processes. Workers inherit that it is blocked: this process
    ends them.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return processes.submit(_extract_shard, shard)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _few_at_a_time(tasks: Iterable["Future[None]"], most: int) -> Iterator[None]:
    """Wait for tasks as they end, with at most `most` of them running, as each holds its images."""
    running: set[Future[None]] = set()
    ended = False
    tasks = iter(tasks)
    while running or not ended:
        while not ended and len(running) < most:
            task = next(tasks, None)
            ended = task is None
            running |= {task} if task else set()
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for each in finished:
            each.result()
            yield


@contextmanager
def _one_thread_each() -> Iterator[None]:
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they import torch
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads


class ShardExtractor:
    """Runs a tower over the images of shards, on one thread of a process of its own.

    Raises:
        InputError: the runtime has another version here.
    """

    def __init__(
        self, config: ModelConfig, tower: Tower, view: View, runtime: str, _cpus: int = 1
    ) -> None:
        torch.set_num_threads(1)
        found = build_runtime(runtime.partition(" ")[0])
        if found.name != runtime:
            raise InputError(
                f"a worker has {found.name}, expected {runtime}; install the same on all machines"
            )
        build = _localizer if tower == "localizer" else _encoder
        self._features, self._view = build(config, found), view

    def __call__(self, shard: ShardTask) -> None:
        """Write the features of a shard."""
        images, path = shard
        write_shard(path, images, lambda image: self._features(*_seen(image, self._view)))


_extractor: ShardExtractor


def _start_worker(config: ModelConfig, tower: Tower, view: View, runtime: str) -> None:
    global _extractor  # a worker process runs one tower
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _extractor = ShardExtractor(config, tower, view, runtime)


def _extract_shard(shard: ShardTask) -> None:
    _extractor(shard)


def _end_with_parent() -> None:
    """End with the parent: a pool's workers would wait for ever once it was killed."""
    parent = parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)


def _localizer(config: ModelConfig, runtime: Runtime) -> Extractor:
    sam, dtype = build_sam(config.localizer), fast_dtype(torch.device("cpu"))
    localizer = SamLocalizer(sam, dtype, config.token, runtime=runtime)

    def tokens(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        return {"tokens": localizer.tokens(localizer.encode(pixels), image.boxes).tokens}

    return tokens


def _encoder(config: ModelConfig, runtime: Runtime) -> Extractor:
    device = torch.device("cpu")
    encoder = build_encoder(config.encoder, device, fast_dtype(device), runtime)

    def maps(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        (tokens,) = encoder.image_tokens([pixels])
        found = {"memory": tokens.sequence()}
        if encoder.pooler:
            found["pooled"] = encoder.pooler.pool(pixels, tokens, image.boxes)
        return found

    return maps


def _seen(image: AnnotatedImage, view: View) -> tuple[ImageArray, AnnotatedImage]:
    """Pixels and annotation of an image in a view.

    Raises:
        UnreadableImage: it cannot be read, or has another size than its annotation says.
    """
    pixels = read_image(image.path)
    try:
        check_stated_size((pixels.shape[1], pixels.shape[0]), (image.width, image.height))
    except InputError as error:
        raise UnreadableImage(image.path, str(error)) from error
    boxes, kept = view.boxes(image.boxes, image.width, image.height)
    names = tuple(image.names[i] for i in kept)
    return view.pixels(pixels), replace(image, boxes=boxes, names=names)
