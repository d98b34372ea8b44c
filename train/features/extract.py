"""Runs the frozen towers over images, in parallel, and writes their features into the cache.

A shard is renamed into place when it is whole, so an extraction that was killed goes on where it
stopped, and ends with the same bytes as one that never was. A broken image does not end it: it is
left out, and looked at again only once its file has changed.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch
from safetensors.torch import save_file

from integrations.images import UnreadableImage, read_image
from regionspot.config import ModelConfig, fast_dtype
from regionspot.encoders import build_encoder, encoder_class
from regionspot.errors import InputError
from regionspot.files import atomic_path
from regionspot.localizers.sam import SamLocalizer, build_sam
from regionspot.types import ImageArray
from train.data import AnnotatedImage
from train.features.augment import AS_IT_IS, View
from train.features.cache import SHARD, TOWERS, FeatureSet, Tower, feature_set
from train.features.skipped import Skipped, file_state, write_skipped

HALF = 2  # bytes of a number as it is kept
HEADER = 128  # bytes that name one tensor in its file, about
OnShard = Callable[[Tower, int, int], None]
Extractor = Callable[[ImageArray, AnnotatedImage], dict[str, torch.Tensor]]


def extract(
    config: ModelConfig,
    images: Sequence[AnnotatedImage],
    cache: Path,
    workers: int,
    on_shard: OnShard = lambda tower, done, total: None,
    view: View = AS_IT_IS,
) -> dict[int, str]:
    """Run both towers over all images, leaving out the shards that the cache holds.

    Args:
        workers: processes, each with one thread.
        on_shard: told the tower, shards done and shards in all.

    Returns:
        Why images were skipped, by their row: they cannot be read, or have another size than their
        annotation says. Those that an earlier extraction skipped are among them.
    """
    return extract_set(feature_set(config, images, cache, view), workers, on_shard)


def extract_set(
    features: FeatureSet,
    workers: int,
    on_shard: OnShard = lambda tower, done, total: None,
) -> dict[int, str]:
    """As `extract`, for images that were looked through already."""
    with _one_thread_each():
        for tower in TOWERS:
            _extract_tower(features, tower, workers, on_shard)
    return features.skipped()


def bytes_needed(features: FeatureSet) -> int:
    """What the shards that are still missing will take on the disk at most, from their shapes."""
    config = features.config
    width = config.head.map_width
    encoder = encoder_class(config.encoder)
    pooled = width if encoder.pools else 0
    of_image = {"localizer": 0, "encoder": encoder.map_length(config.encoder) * width}
    of_region = {"localizer": config.head.token_width, "encoder": pooled}
    tensors = {"localizer": 1, "encoder": 2 if pooled else 1}
    total = 0
    for tower in TOWERS:
        for number in _missing(features, tower):
            regions = features.regions[number * SHARD : (number + 1) * SHARD]
            numbers = len(regions) * of_image[tower] + int(regions.sum()) * of_region[tower]
            total += HALF * numbers + HEADER * tensors[tower] * len(regions)
    return total


def check_space(sets: Sequence[FeatureSet], cache: Path) -> tuple[int, int]:
    """The bytes that extractions need and the bytes that are free where the cache lies.

    Raises:
        InputError: less is free than is needed.
    """
    needed = sum(map(bytes_needed, sets))
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


def _missing(features: FeatureSet, tower: Tower) -> list[int]:
    """Shards that are not there, or that skipped an image whose file has changed since."""
    skipped = features.skipped_by(tower).items()
    changed = {
        row // SHARD for row, each in skipped if file_state(features.images[row].path) != each.state
    }
    return [
        i
        for i in range(features.shard_count())
        if i in changed or not features.shard_path(tower, i).exists()
    ]


def _extract_tower(features: FeatureSet, tower: Tower, workers: int, on_shard: OnShard) -> None:
    folder = features.folders[tower]
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    total, missing = features.shard_count(), _missing(features, tower)
    done = total - len(missing)
    on_shard(tower, done, total)
    if not missing:
        return
    arguments = (
        (list(features.images[i * SHARD : (i + 1) * SHARD]), features.shard_path(tower, i))
        for i in missing
    )
    with ProcessPoolExecutor(
        min(workers, len(missing)),
        get_context("spawn"),
        initializer=_start_worker,
        initargs=(features.config, tower),
    ) as pool:
        tasks = (pool.submit(_extract_shard, *each, features.view) for each in arguments)
        for _ in _few_at_a_time(tasks, 2 * workers):
            done += 1
            on_shard(tower, done, total)


def _few_at_a_time(tasks: Iterable["Future[None]"], most: int) -> Iterator[None]:
    """Wait for tasks as they end, starting so many ahead, as each holds its images."""
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


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes that are gone left unfinished."""
    for part in folder.glob("*.part"):
        owner = part.name.split(".")[-2]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue  # another's, or none of ours


_extractor: Extractor


def _start_worker(config: ModelConfig, tower: Tower) -> None:
    global _extractor  # a worker process has one tower for its whole life
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _extractor = _localizer(config) if tower == "localizer" else _encoder(config)


def _end_with_parent() -> None:
    """A pool's workers would wait for ever for more to do once their parent was killed."""
    parent = parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)


def _localizer(config: ModelConfig) -> Extractor:
    device = torch.device("cpu")
    localizer = SamLocalizer(build_sam(config.localizer), fast_dtype(device), config.token)

    def tokens(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        return {"tokens": localizer.tokens(localizer.encode(pixels), image.boxes).tokens}

    return tokens


def _encoder(config: ModelConfig) -> Extractor:
    device = torch.device("cpu")
    encoder = build_encoder(config.encoder, device, fast_dtype(device))

    def maps(pixels: ImageArray, image: AnnotatedImage) -> dict[str, torch.Tensor]:
        (seen,) = encoder.image_tokens([pixels])
        memory = {"memory": seen.sequence()}
        if encoder.pooler is None:
            return memory
        return memory | {"pooled": encoder.pooler.pool(pixels, seen, image.boxes)}

    return maps


def _seen(image: AnnotatedImage, view: View) -> tuple[ImageArray, AnnotatedImage]:
    """Pixels and boxes of an image in a view.

    Raises:
        UnreadableImage: it cannot be read, or has another size than its annotation says.
    """
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        raise UnreadableImage(
            image.path,
            f"must be {image.width} x {image.height} as annotated, "
            f"got {pixels.shape[1]} x {pixels.shape[0]}",
        )
    boxes, kept = view.boxes(image.boxes, image.width, image.height)
    names = tuple(image.names[i] for i in kept)
    return view.pixels(pixels), replace(image, boxes=boxes, names=names)


def _extract_shard(images: Sequence[AnnotatedImage], path: Path, view: View) -> None:
    tensors: dict[str, torch.Tensor] = {}
    skipped: list[Skipped] = []
    for row, image in enumerate(images):
        state = file_state(image.path)  # before it is read: what changes meanwhile is tried again
        try:
            seen = _seen(image, view)
        except UnreadableImage as error:
            skipped.append(Skipped(row, str(error), state))
            continue
        for name, tensor in _extractor(*seen).items():
            tensors[f"{image.id}.{name}"] = tensor.half().contiguous()
    # In this order, so that whenever it is killed no shard lacks what is not said to be skipped.
    path.unlink(missing_ok=True)
    write_skipped(path, skipped)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
