"""`python -m train`: extract features, train the head, measure it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from integrations.vocabulary_file import read_words
from regionspot.checkpoint import load_head
from regionspot.config import ModelConfig, preset
from regionspot.encoders import VisionLanguageEncoder, build_encoder
from regionspot.errors import InputError
from regionspot.model import SHIPPED
from regionspot.scoring import RegionScorer
from train import config as recipes
from train.config import override
from train.data import (
    READERS,
    AnnotatedImage,
    known_classes,
    load_coco,
    load_label_space,
    open_dataset,
)
from train.experiments.ablations import ablate, as_markdown, plain_recipe
from train.experiments.leave_classes_out import leave_out, mean_of
from train.experiments.simulated_review import GROUPS, Simulation
from train.features.augment import AS_IT_IS, parse_view
from train.features.cache import ImageFeatures, feature_set
from train.features.progress import extract_sets, extract_with_progress
from train.finetune.losses import ReviewSettings
from train.metrics import boxes_of, mean_presence, region_scores, top_k
from train.run import Places, short_name, train, used_words
from train.sampler import TrainingSet, hold_out

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

CORES = os.cpu_count() or 1
TABLE_WIDTH = 100  # of figures and their intervals; a file has no width of its own
FEATURES, RUNS, HEAD = Path(".work/features"), Path(".work/train"), "head.safetensors"

Cache = Annotated[Path, typer.Option(help="Where features are kept.")]
Workers = Annotated[int, typer.Option(help="Processes for the frozen towers.")]

SPEC_HELP = (
    "A folder with instances.json and images/, or KIND:PATH with one of "
    f"{', '.join(READERS)}; with ,words=FILE its boxes of some words alone; may be repeated."
)
Specs = Annotated[
    list[str],
    typer.Option("--data", help=f"{SPEC_HELP} DATA=RATIO gives its share of the images."),
]
Views = Annotated[
    list[str] | None,
    typer.Option("--view", help="An extra view: flip, scale=0.75, or both with a comma."),
]
Preset = Annotated[str, typer.Option("--preset", help="The model whose head is trained.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of the recipe: learning_rate=1e-4; repeated."),
]
# Not --run: torchrun takes the beginning of one of its own options for the whole.
Run = Annotated[
    Path, typer.Option("--run-folder", help="Folder of the state that a stopped run goes on from.")
]
Start = Annotated[Path, typer.Option("--start-from", help="The head of stage 1.")]
Out = Annotated[Path | None, typer.Option(help="The checkpoint; by default in the run folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the run folder holds.")]
Curves = Annotated[bool, typer.Option(help="Write TensorBoard's files into the run folder.")]


@app.command("extract")
def extract_command(
    data: Annotated[list[str], typer.Option(help=SPEC_HELP)],
    view: Views = None,
    model: Annotated[str, typer.Option(help="The preset whose towers are run.")] = "mini",
    cache: Cache = FEATURES,
    workers: Workers = CORES,
) -> None:
    """Compute the frozen towers' features of data sets; goes on where it stopped."""
    config = preset(model)
    views = dict.fromkeys([AS_IT_IS, *map(parse_view, view or ())])
    images = {spec: open_dataset(spec).images for spec in data}
    sets = {
        f"{spec}, {each}": feature_set(config, images[spec], cache, each)
        for spec in images
        for each in views
    }
    extract_sets(sets, cache, workers, console)


@app.command()
def stage1(
    data: Specs,
    model: Preset = "bl",
    settings: Settings = None,
    cache: Cache = FEATURES,
    run: Run = RUNS / "stage1",
    out: Out = None,
    workers: Workers = CORES,
    device: Device = "auto",
    fresh: Fresh = False,
    curves: Curves = True,
) -> None:
    """The paper's first stage: warm up region-word alignment on one data set."""
    if len(data) != 1:
        raise InputError(f"stage 1 trains on one data set, got {len(data)}; stage2 takes several")
    recipe = override(recipes.stage1(preset(model)), settings or [])
    places = Places(cache, run, out or run / HEAD, workers, device, fresh, curves)
    train(recipe, data, places, console)


@app.command()
def stage2(
    data: Specs,
    start: Start = RUNS / "stage1" / HEAD,
    model: Preset = "bl",
    settings: Settings = None,
    cache: Cache = FEATURES,
    run: Run = RUNS / "stage2",
    out: Out = None,
    workers: Workers = CORES,
    device: Device = "auto",
    fresh: Fresh = False,
    curves: Curves = True,
) -> None:
    """The paper's second stage: go on from stage 1's head over several data sets."""
    if not start.exists():
        raise InputError(
            f"{start} is not there: train stage1 first, or name its head with --start-from"
        )
    recipe = override(recipes.stage2(preset(model), str(start)), settings or [])
    places = Places(cache, run, out or run / HEAD, workers, device, fresh, curves)
    train(recipe, data, places, console)


@app.command()
def mini(
    data: Specs,
    settings: Settings = None,
    cache: Cache = FEATURES,
    run: Run = RUNS / "mini",
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = SHIPPED
    / "mini.safetensors",
    workers: Workers = CORES,
    device: Device = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of images.")] = 0,
    fresh: Fresh = False,
    curves: Curves = True,
) -> None:
    """Train the head of the preset `mini`: extract, train, calibrate, save."""
    recipe = recipes.mini()
    recipe = replace(recipe, epochs=epochs or recipe.epochs, seed=seed)
    places = Places(cache, run, out, workers, device, fresh, curves)
    train(override(recipe, settings or []), data, places, console)


@app.command()
def measure(
    data: Annotated[list[Path], typer.Option(help="One or more folders like --data of mini.")],
    cache: Cache = FEATURES,
    checkpoint: Annotated[Path, typer.Option(help="The head.")] = SHIPPED / "mini.safetensors",
    workers: Workers = CORES,
    listed: Annotated[
        bool, typer.Option(help="Choose among all words that the data lists, not those it uses.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option(help="Average the synonyms that the data lists into each word.")
    ] = False,
    of: Annotated[
        list[Path] | None,
        typer.Option(
            "--of",
            help="A file of words, one a line, whose boxes are also measured alone, "
            "chosen among all words; may be repeated.",
        ),
    ] = None,
) -> None:
    """Top-1 and top-5 on the given boxes of data sets, with 95% intervals over images.

    Beside them the mean presence of the best word, which is top-1 where it is calibrated.
    """
    config = preset("mini")
    encoder = encoder_of(config)
    scorer = RegionScorer.of(encoder, load_head(checkpoint, config), config.encoder.templates)
    columns = "data", "images", "boxes", "words", "top-1 %", "top-5 %", "presence %"
    table = Table(*columns, box=None, pad_edge=False)
    for folder in data:
        images = load_coco(folder)
        groups = load_label_space(folder)
        parts = {file.stem: known_classes(file, groups) for file in of or ()}
        features = extract_with_progress(config, images, cache, workers, encoder.pooler)
        words = {
            name: groups[name] if synonyms else [name]
            for name in (groups if listed else used_words(images))
        }
        vocabulary = scorer.vocabulary(words)
        found = region_scores(scorer.regions, features, vocabulary)
        rows = {folder.name: (found, features)}
        for name, part in parts.items():
            rows[f"{folder.name}: {name}"] = boxes_of(found, features, part)
        for name, (scores, measured) in rows.items():
            boxes = sum(len(image.names) for image in measured)
            figures = ["none"] * 3
            if boxes:
                figures = [str(top_k(scores, measured, vocabulary, k)) for k in (1, 5)]
                figures.append(f"{mean_presence(scores, vocabulary, scorer.calibration):.1f}")
            table.add_row(name, *map(str, (len(measured), boxes, len(vocabulary))), *figures)
    Console(width=max(console.width, TABLE_WIDTH)).print(table)


@app.command()
def ablations(
    data: Annotated[Path, typer.Option(help="Folder to train on, like --data of mini.")],
    test: Annotated[Path, typer.Option(help="Folder to measure on.")],
    images: Annotated[int | None, typer.Option(min=1, help="Train on the first images.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated; 0 by default.")] = None,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
) -> None:
    """The paper's Tables 3 to 5: what the head loses with each of its parts, as Markdown."""
    recipe = plain_recipe()
    encoder = encoder_of(recipe.model)

    def features_of(model: ModelConfig, of: Sequence[AnnotatedImage]) -> Sequence[ImageFeatures]:
        return extract_with_progress(model, of, cache, workers, encoder.pooler)

    def on_head(name: str, seed: int) -> None:
        console.print(f"training: {name}, seed {seed}", highlight=False)

    training = load_coco(data)[:images]
    seeds = seed or [0]
    rows = ablate(recipe, training, load_coco(test), features_of, encoder, seeds, on_head)
    typer.echo(as_markdown(rows))


@app.command()
def left_out(
    data: Annotated[Path, typer.Option(help="Folder to train on, like --data of mini.")],
    parts: Annotated[int, typer.Option(min=2, help="In which the words are dealt.")] = 4,
    beside: Annotated[
        Path | None, typer.Option(help="A file of words, one a line, that no box bears.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of each training.")] = 4,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
) -> None:
    """How words are found that the head was not trained on, and what they cost the others.

    Each part of the words is left out of a training of its own, without teachers, and measured
    among all words on the images that `mini` holds out.
    """
    recipe = replace(recipes.mini(), teachers=0, epochs=epochs)
    encoder = encoder_of(recipe.model)
    features = extract_with_progress(recipe.model, load_coco(data), cache, workers, encoder.pooler)
    names = [image.names for image in features]
    words = tuple(sorted({name for each in names for name in each}))
    every = TrainingSet(short_name(str(data)), features, names, words)
    others = read_words(beside).names if beside else ()
    found = leave_out(
        recipe, every, encoder, parts, others, lambda part: console.print(", ".join(part))
    )
    columns = "part", "words", "boxes", "top-1 %", "top-5 %", "log loss"
    table = Table(*columns, box=None, pad_edge=False)
    for number, part in [*enumerate(found, 1), ("mean", mean_of(found))]:
        for group, each in (("left out", part.left_out), ("trained", part.trained)):
            figures = f"{each.top_1:.1f}", f"{each.top_5:.1f}", f"{each.log_loss:.3f}"
            table.add_row(str(number), group, str(each.boxes), *figures)
    console.print(table)


@app.command()
def simulate_review(
    data: Annotated[Path, typer.Option(help="Folder that --checkpoint was trained on by mini.")],
    test: Annotated[Path, typer.Option(help="Folder to measure on.")],
    checkpoint: Annotated[Path, typer.Option(help="The head.")] = SHIPPED / "mini.safetensors",
    words: Annotated[int, typer.Option(min=1, help="Words that the person corrects.")] = 8,
    reviews: Annotated[int, typer.Option(min=2, help="Reviews, each of other words.")] = 6,
    replay: Annotated[int, typer.Option(min=1, help="Photos of --data that are replayed.")] = 300,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
) -> None:
    """What `autolabel train --from-review` brings and costs, with a made-up person.

    They correct some words in the images of --data that training held out: words that the head was
    not trained on, where there are such. Percent of the boxes of --test whose own word is the best.
    """
    recipe = recipes.mini()
    trained = load_head(checkpoint, recipe.model)
    encoder = encoder_of(recipe.model)
    scorer = RegionScorer.of(encoder, trained, recipe.model.encoder.templates)
    features, tested = (
        extract_with_progress(recipe.model, load_coco(each), cache, workers, encoder.pooler)
        for each in (data, test)
    )
    names = [image.names for image in features]
    every = TrainingSet(short_name(str(data)), features, names, trained.seen_classes)
    simulation = Simulation(
        scorer,
        trained.seen_classes,
        scorer.vocabulary(sorted({name for i in (*features, *tested) for name in i.names})),
        hold_out(every, recipe.held_out, recipe.seed),
        tested,
    )
    effects = [
        simulation.review(words, replay, ReviewSettings(seed=seed))
        for seed in track(range(reviews), "reviews", console=console)
    ]
    groups = [group for group in GROUPS if any(effect.before[group].total for effect in effects)]
    table = Table("review", "corrections", *groups, box=None, pad_edge=False)
    changes = []
    for seed, effect in enumerate(effects):
        pairs = [(effect.before[group].percent, effect.after[group].percent) for group in groups]
        cells = [f"{before:.1f} > {after:.1f}" for before, after in pairs]
        table.add_row(str(seed), str(effect.corrections), *cells)
        changes.append([after - before for before, after in pairs])
    means, deviations = np.nanmean(changes, axis=0), np.nanstd(changes, axis=0, ddof=1)
    errors = deviations / np.isfinite(changes).sum(0) ** 0.5
    cells = [f"{mean:+.1f} ± {error:.1f}" for mean, error in zip(means, errors, strict=True)]
    table.add_row("mean change", "", *cells)
    console.print(table)


def encoder_of(config: ModelConfig) -> VisionLanguageEncoder:
    """The encoder for text, priors and zero-shot classes; extraction builds towers of its own."""
    return build_encoder(config.encoder, torch.device("cpu"), torch.float32)


def main() -> None:
    """Run the command line; an `InputError` becomes one line and exit code 1."""
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
