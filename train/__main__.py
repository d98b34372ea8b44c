"""`python -m train`: extract features, train the head, measure it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from regionspot.checkpoint import load_head, save_head
from regionspot.errors import InputError
from regionspot.head import RegionHead
from regionspot.model import SHIPPED, build_encoder, unseen_words
from regionspot.presets import ModelConfig, preset
from regionspot.scoring import Scoring
from regionspot.types import Vocabulary
from regionspot.vocabulary import Words, build_vocabulary
from train.data import AnnotatedImage, listed_words, load_coco
from train.features import ImageFeatures, Tower, extract, load_features
from train.fit import fit
from train.measure import calibrate_presence, region_cosines, top_k
from train.recipes import Recipe
from train.recipes import mini as mini_recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

CORES = os.cpu_count() or 1
MINI = mini_recipe()

Data = Annotated[Path, typer.Option(help="Folder with instances.json (COCO) and images/.")]
Cache = Annotated[Path, typer.Option(help="Where features are kept.")]
Workers = Annotated[int, typer.Option(help="Processes for the frozen towers.")]


@app.command("extract")
def extract_command(
    data: Data,
    cache: Cache = Path(".work/features"),
    workers: Workers = CORES,
) -> None:
    """Compute the frozen towers' features of a data set; goes on where it stopped."""
    extract_with_progress(preset("mini"), load_coco(data), cache, workers)


@app.command()
def mini(
    data: Data,
    cache: Cache = Path(".work/features"),
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = SHIPPED
    / "mini.safetensors",
    workers: Workers = CORES,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = MINI.epochs,
    seed: Annotated[
        int, typer.Option(help="Of the weights and of the order of images.")
    ] = MINI.seed,
) -> None:
    """Train the head of the preset `mini` on one data set: extract, train, calibrate, save."""
    recipe = replace(MINI, epochs=epochs, seed=seed)
    images = load_coco(data)
    features = extract_with_progress(recipe.model, images, cache, workers)
    vocabulary = embed_words(recipe.model, used_words(images))
    training, held_out = split(features, recipe)
    console.print(f"{len(training)} images to train on, {len(held_out)} to calibrate on")

    def report(epoch: int, loss: float, head: RegionHead) -> None:
        found = region_cosines(head, held_out, vocabulary)
        best, five = (top_k(found, held_out, vocabulary, k) for k in (1, 5))
        console.print(
            f"epoch {epoch}/{recipe.epochs}: loss {loss:.3f}, held-out top-1 {best}, top-5 {five}"
        )

    head = fit(recipe, training, vocabulary, report)
    scale, bias = calibrate_presence(
        region_cosines(head, held_out, vocabulary), held_out, vocabulary
    )
    scoring = Scoring(recipe.logit_scale, scale, bias)
    save_head(out, head, recipe.model, scoring, vocabulary.names)
    console.print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


@app.command()
def measure(
    data: Annotated[list[Path], typer.Option(help="One or more folders like --data of mini.")],
    cache: Cache = Path(".work/features"),
    checkpoint: Annotated[Path, typer.Option(help="The head.")] = SHIPPED / "mini.safetensors",
    workers: Workers = CORES,
    listed: Annotated[
        bool, typer.Option(help="Choose among all words that the data lists, not those it uses.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option(help="Average the synonyms that the data lists into each word.")
    ] = False,
) -> None:
    """Top-1 and top-5 on the given boxes of data sets, with 95% intervals over images."""
    config = preset("mini")
    trained = load_head(checkpoint, config)
    encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
    unseen = unseen_words(encoder, trained.trained_words, config.encoder.templates)
    table = Table("data", "images", "boxes", "words", "top-1 %", "top-5 %")
    for folder in data:
        images = load_coco(folder)
        features = extract_with_progress(config, images, cache, workers)
        groups = listed_words(folder)
        words = {
            name: groups[name] if synonyms else [name]
            for name in (groups if listed else used_words(images))
        }
        vocabulary = embed_words(config, words)
        found = region_cosines(trained.head, features, vocabulary, unseen)
        table.add_row(
            folder.name,
            str(len(images)),
            str(sum(len(image.names) for image in images)),
            str(len(vocabulary)),
            str(top_k(found, features, vocabulary, 1)),
            str(top_k(found, features, vocabulary, 5)),
        )
    console.print(table)


def used_words(images: list[AnnotatedImage]) -> list[str]:
    """The words that a data set uses, in alphabetical order."""
    return sorted({name for image in images for name in image.names})


def embed_words(config: ModelConfig, words: Words) -> Vocabulary:
    """Embed words with the text tower of a configuration."""
    encoder = build_encoder(config.encoder, torch.device("cpu"), torch.float32)
    return build_vocabulary(encoder, words, config.encoder.templates)


def split(
    features: list[ImageFeatures], recipe: Recipe
) -> tuple[list[ImageFeatures], list[ImageFeatures]]:
    """Images to train on, and the recipe's share of images to calibrate on."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(recipe.seed))
    count = round(recipe.held_out * len(features))
    held_out = set(order[:count].tolist())
    return (
        [image for i, image in enumerate(features) if i not in held_out],
        [image for i, image in enumerate(features) if i in held_out],
    )


def extract_with_progress(
    config: ModelConfig, images: list[AnnotatedImage], cache: Path, workers: int
) -> list[ImageFeatures]:
    """Features of all images, computed where the cache lacks them, with a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        tasks = {tower: bar.add_task(tower) for tower in ("localizer", "encoder")}

        def on_shard(tower: Tower, done: int, total: int) -> None:
            bar.update(tasks[tower], completed=done, total=total)

        extract(config, images, cache, workers, on_shard)
    return load_features(config, images, cache)


def main() -> None:
    """Run the command line; an `InputError` becomes one line and exit code 1."""
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
