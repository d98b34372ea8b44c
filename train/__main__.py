"""`python -m train`: extract features, train the head, evaluate it."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from integrations.annotations import Tally
from integrations.cluster.ray_pool import ray_pool
from integrations.failures import CommandGroup, raise_at_sigterm
from integrations.output import Output
from regionspot.config import preset
from regionspot.devices.runtime import TORCH
from regionspot.errors import InputError
from regionspot.model import SHIPPED
from regionspot.nouns.wordnet import NOUNS
from train import config as recipes
from train.callbacks import load_tensorboard
from train.data.coco import load_coco
from train.data.nouns import build_noun_bank
from train.data.registry import READERS, open_dataset
from train.experiments.ablations import ablate, ablation_markdown, ablation_recipe
from train.experiments.evaluate import evaluate_folders, evaluation_table
from train.experiments.examples import evaluate_examples, examples_table
from train.experiments.held_out import write_held_out
from train.experiments.leave_classes_out import fold_table, leave_out_of_folder
from train.experiments.presence import fit_presence as fit_constants_of_presence
from train.experiments.presence import presence_table
from train.experiments.simulated_review import review_table, simulate_reviews
from train.features.augment import IDENTITY, parse_view
from train.features.cache import FeatureSet
from train.features.extract import FeatureExtractor, extract_sets
from train.run import Paths, open_datasets, train

app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
console = Console()

CORES = os.cpu_count() or 1
TABLE_WIDTH = 100  # of metrics and their intervals, also where the output is no terminal
FEATURES, RUNS, HEAD = Path(".work/features"), Path(".work/train"), "head.safetensors"

Cache = Annotated[Path, typer.Option(help="Where features are kept.")]
Workers = Annotated[int, typer.Option(help="Processes for the frozen towers.")]

Runtime = Annotated[
    str,
    typer.Option(
        help="What computes the frozen towers: torch, openvino, onnxruntime, or auto. Features of "
        "each are kept apart."
    ),
]

SPEC_HELP = (
    "A folder with instances.json and images/, or KIND:PATH with one of "
    f"{', '.join(READERS)}; with ,words=FILE its boxes of some classes alone; may be repeated."
)
Specs = Annotated[
    list[str],
    typer.Option("--data", help=f"{SPEC_HELP} DATA=RATIO sets its ratio of the images."),
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
# Not --run: torchrun accepts abbreviations of its own options.
Run = Annotated[
    Path, typer.Option("--run-folder", help="Folder of the state that a stopped run resumes from.")
]
Checkpoint = Annotated[Path, typer.Option(help="The head.")]
Start = Annotated[Path, typer.Option("--start-from", help="The head of stage 1.")]
Out = Annotated[Path | None, typer.Option(help="The checkpoint; by default in the run folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do not resume the run folder's state.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the summary as one line of JSON on standard output."),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        help="Show no progress and no summary, only what was skipped, changed or left out.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Only the first N images of each data set.",
        show_default="all",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a data set of which anything would be changed or left out."
    ),
]
Curves = Annotated[bool, typer.Option(help="Write TensorBoard's files into the run folder.")]


@app.command("extract")
def extract_command(
    data: Annotated[list[str], typer.Option(help=SPEC_HELP)],
    view: Views = None,
    model: Annotated[str, typer.Option(help="The preset whose towers are run.")] = "mini",
    cache: Cache = FEATURES,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes for the frozen towers.",
            show_default=f"{CORES}; with --ray as many as the cluster has room for",
        ),
    ] = None,
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster whose machines run the towers: auto or HOST:PORT. Images and cache "
            "lie on a file system that they share.",
            show_default="processes of this machine",
        ),
    ] = "",
    runtime: Runtime = TORCH.name,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute the frozen towers' features of data sets; resumes where it stopped."""
    with Output(as_json, quiet) as output:
        config = preset(model)
        pool = ray_pool(workers or 0, ray) if ray else None
        views = dict.fromkeys([IDENTITY, *map(parse_view, view or ())])
        tally = Tally(strict=strict)
        images = {spec: open_dataset(spec, limit, tally).images for spec in data}
        sets = {
            f"{spec}, {each}": FeatureSet.of(config, images[spec], cache, each, runtime)
            for spec in images
            for each in views
        }
        with output.progress() as reporter:
            extract_sets(sets, cache, workers or CORES, reporter, tally, pool)
        found = [{"name": name, "images": len(each.images)} for name, each in sets.items()]
        _summarise(output, {"sets": found}, limit, tally)


@app.command()
def stage1(
    data: Specs,
    model: Preset = "bl",
    settings: Settings = None,
    cache: Cache = FEATURES,
    run: Run = RUNS / "stage1",
    out: Out = None,
    workers: Workers = CORES,
    runtime: Runtime = TORCH.name,
    device: Device = "auto",
    fresh: Fresh = False,
    curves: Curves = True,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The paper's first stage: warm up region-word alignment on one data set."""
    with Output(as_json, quiet) as output:
        if len(data) != 1:
            raise InputError(
                f"stage 1 trains on one data set, got {len(data)}; stage2 takes several"
            )
        out = out or run / HEAD
        paths = Paths(
            cache=cache,
            run=run,
            out=out,
            workers=workers,
            device=device,
            fresh=fresh,
            curves=curves,
            runtime=runtime,
        )
        recipe = recipes.override(recipes.stage1(preset(model)), settings or [])
        _train(recipe, data, paths, limit, strict, output)


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
    runtime: Runtime = TORCH.name,
    device: Device = "auto",
    fresh: Fresh = False,
    curves: Curves = True,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The paper's second stage: train stage 1's head further on several data sets."""
    with Output(as_json, quiet) as output:
        if not start.exists():
            raise InputError(
                f"{start} is not there: train stage1 first, or name its head with --start-from"
            )
        out = out or run / HEAD
        paths = Paths(
            cache=cache,
            run=run,
            out=out,
            workers=workers,
            device=device,
            fresh=fresh,
            curves=curves,
            runtime=runtime,
        )
        recipe = recipes.override(recipes.stage2(preset(model), str(start)), settings or [])
        _train(recipe, data, paths, limit, strict, output)


@app.command()
def mini(
    data: Specs,
    settings: Settings = None,
    cache: Cache = FEATURES,
    run: Run = RUNS / "mini",
    out: Out = None,
    workers: Workers = CORES,
    runtime: Runtime = TORCH.name,
    device: Device = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of images.")] = 0,
    fresh: Fresh = False,
    curves: Curves = True,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the head of the preset `mini`: extract, train, calibrate, save."""
    with Output(as_json, quiet) as output:
        recipe = recipes.mini()
        recipe = replace(recipe, epochs=epochs or recipe.epochs, seed=seed)
        checkpoint = out or run / HEAD
        paths = Paths(
            cache=cache,
            run=run,
            out=checkpoint,
            workers=workers,
            device=device,
            fresh=fresh,
            curves=curves,
            runtime=runtime,
        )
        recipe = recipes.override(recipe, settings or [])
        _train(recipe, data, paths, limit, strict, output)


@app.command()
def measure(
    data: Annotated[list[Path], typer.Option(help="One or more folders like --data of mini.")],
    cache: Cache = FEATURES,
    checkpoint: Checkpoint = SHIPPED / "mini.safetensors",
    workers: Workers = CORES,
    listed: Annotated[
        bool, typer.Option(help="Choose among all classes that the data lists, not those it uses.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option(help="Average the synonyms that the data lists into each class.")
    ] = False,
    of: Annotated[
        list[Path] | None,
        typer.Option(
            "--of",
            help="A file of classes, one a line, whose boxes are also measured alone, "
            "chosen among all classes; may be repeated.",
        ),
    ] = None,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Top-1 and top-5 accuracy on the ground-truth boxes of data sets, with 95% intervals.

    Beside them the mean presence of the best class, which is top-1 where it is calibrated.
    """
    with Output(as_json, quiet) as output:
        tally = Tally(strict=strict)
        with output.progress() as reporter:
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter, tally)
            rows = evaluate_folders(data, checkpoint, features, listed, synonyms, of or (), limit)
        if not (as_json or quiet):
            Console(width=max(console.width, TABLE_WIDTH)).print(evaluation_table(rows))
        _summarise(output, {"rows": [asdict(row) for row in rows]}, limit, tally)


@app.command()
def ablations(
    data: Annotated[Path, typer.Option(help="Folder to train on, like --data of mini.")],
    test: Annotated[Path, typer.Option(help="Folder to measure on.")],
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated; 0 by default.")] = None,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The paper's Tables 3 to 5: what the head loses with each of its parts, as Markdown."""
    with Output(as_json, quiet) as output:
        tally = Tally(strict=strict)
        with output.progress() as reporter:
            training, tested = (load_coco(folder, limit, tally) for folder in (data, test))
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter, tally)
            recipe, encoder = ablation_recipe(), features.encoder
            rows = ablate(recipe, training, tested, features, encoder, seed or [0], reporter)
        for line in ablation_markdown(rows).splitlines():
            output.line(line)
        _summarise(output, {"rows": [asdict(row) for row in rows]}, limit, tally)


@app.command()
def leave_classes_out(
    data: Annotated[Path, typer.Option(help="Folder to train on, like --data of mini.")],
    parts: Annotated[int, typer.Option(min=2, help="Number of folds of the classes.")] = 4,
    beside: Annotated[
        Path | None, typer.Option(help="A file of more classes to choose among, one a line.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of each training.")] = 4,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Accuracy on unseen and on seen classes, by cross-validation over classes.

    Each fold of the classes is left out of a training of its own, without teachers, and measured
    among all classes on the images that `mini` holds out.
    """
    with Output(as_json, quiet) as output:
        tally = Tally(strict=strict)
        with output.progress() as reporter:
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter, tally)
            folds = leave_out_of_folder(data, parts, beside, epochs, features, limit)
        output.show(fold_table(folds))
        _summarise(output, {"folds": [asdict(fold) for fold in folds]}, limit, tally)


@app.command()
def examples(
    test: Annotated[Path, typer.Option(help="Folder to measure on, like --data of mini.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that examples are taken from.", show_default="other images of --test"
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option("--of", help="A file of the classes that get examples.", show_default="all"),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="A file of classes that are also measured alone; may be repeated."),
    ] = None,
    count: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Examples of a word; may be repeated; 1, 5 and 20 by default."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of examples.")] = 20,
    pool: Annotated[
        int, typer.Option(min=1, help="Boxes of a word in --data that draws are from.")
    ] = 60,
    listed: Annotated[
        bool, typer.Option(help="Choose among all classes that --test lists, not those it uses.")
    ] = False,
    checkpoint: Checkpoint = SHIPPED / "mini.safetensors",
    nearest_mean: Annotated[
        bool, typer.Option("--nearest-mean", help="Evaluate the nearest mean of examples, too.")
    ] = False,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Top-1 accuracy of words that a few examples stand for, with and without their text.

    All boxes of --test are classified among all its classes. Without --data, examples are
    boxes of its other images. The table has the mean over draws, with a 95% interval over images.
    """
    with Output(as_json, quiet) as output:
        tally = Tally(strict=strict)
        with output.progress() as reporter:
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter, tally)
            counts, others = count or [1, 5, 20], beside or []
            figures = evaluate_examples(
                test,
                data,
                words,
                others,
                counts,
                draws,
                pool,
                checkpoint,
                features,
                listed,
                limit,
                nearest_mean,
            )
        output.show(examples_table(figures))
        _summarise(output, {"rows": [asdict(each) for each in figures]}, limit, tally)


@app.command()
def simulate_review(
    data: Annotated[Path, typer.Option(help="Folder that --checkpoint was trained on by mini.")],
    test: Annotated[Path, typer.Option(help="Folder to measure on.")],
    checkpoint: Checkpoint = SHIPPED / "mini.safetensors",
    words: Annotated[int, typer.Option(min=1, help="Classes that the annotator corrects.")] = 8,
    reviews: Annotated[int, typer.Option(min=2, help="Reviews, each of other classes.")] = 6,
    replay: Annotated[int, typer.Option(min=1, help="Photos of --data that are replayed.")] = 300,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
    limit: Limit = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Gains and losses of `autolabel train --from-review`, with a simulated annotator.

    They correct some classes in the images of --data that training held out: classes that the head
    was not trained on, where there are such. The table has top-1 accuracy in percent on --test.
    """
    with Output(as_json, quiet) as output:
        tally = Tally(strict=strict)
        with output.progress() as reporter:
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter, tally)
            effects = simulate_reviews(
                data, test, checkpoint, words, reviews, replay, features, limit
            )
        output.show(review_table(effects))
        _summarise(output, {"reviews": [asdict(effect) for effect in effects]}, limit, tally)


@app.command()
def fit_presence(
    data: Annotated[Path, typer.Option(help="Folder that --checkpoint was trained on by mini.")],
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            help="A head; may be repeated. One at least was trained without some of the classes; "
            "--test is measured with the first."
        ),
    ],
    test: Annotated[
        list[Path] | None, typer.Option(help="Folder to measure on; may be repeated.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of the images that training held out.")
    ] = recipes.Recipe.held_out,
    cache: Cache = FEATURES,
    workers: Workers = CORES,
    limit: Limit = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit the constants of presence on classes that a head was not trained on, and test them.

    They stand in regionspot/nouns/bank.py. The table has the calibration on left-out classes, by
    constants fitted without them, and on --test.
    """
    with Output(as_json, quiet) as output:
        with output.progress() as reporter:
            features = FeatureExtractor.of(preset("mini"), cache, workers, reporter)
            found = fit_constants_of_presence(
                data, checkpoint, test or [], held_out, features, limit
            )
        output.show(presence_table(found))
        output.summary(asdict(found))


@app.command("held-out")
def held_out_images(
    data: Annotated[Path, typer.Option(help="Folder that mini is trained on.")],
    out: Annotated[Path, typer.Option(help="The COCO file.")],
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of the images that training holds out.")
    ] = recipes.Recipe.held_out,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the images that a training holds out, with their annotations, as COCO JSON."""
    with Output(as_json, quiet) as output:
        count = write_held_out(data, out, held_out)
        output.line(f"{count} images: {out}")
        output.summary({"images": count, "out": str(out)})


@app.command()
def noun_bank(
    lvis: Annotated[Path, typer.Option(help="LVIS's annotations, for its categories.")],
    coco: Annotated[Path, typer.Option(help="COCO's annotations, for its categories.")],
    out: Annotated[Path, typer.Option(help="The file.")] = NOUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the bank of nouns that presence compares words with, out of WordNet (from npm)."""
    with Output(as_json, quiet) as output:
        output.summary({"nouns": build_noun_bank(lvis, coco, out), "file": out})


def _train(
    recipe: recipes.Recipe,
    specs: list[str],
    paths: Paths,
    limit: int | None,
    strict: bool,
    output: Output,
) -> None:
    is_first = os.environ.get("RANK", "0") == "0"  # torchrun starts several processes
    if paths.curves:
        load_tensorboard()  # if it is missing, before any work
    read, skipped = Tally(strict=strict), Tally(strict=strict)
    data = open_datasets(specs, limit, read)
    if is_first:
        _note(output, read)  # before hours of training
    with output.progress() as reporter:
        train(recipe, data, paths, reporter, skipped)
    if is_first:
        _note(output, skipped)
        read.merge(skipped)
        output.summary(
            {
                "checkpoint": paths.out,
                "run_folder": paths.run,
                "data": [{"name": each.name, "images": len(each)} for each, _ in data],
                "limit": limit,
                **read.reading(),
            }
        )


def _summarise(
    output: Output, content: Mapping[str, object], limit: int | None, tally: Tally
) -> None:
    """Print what was changed and left out, and the line of JSON."""
    _note(output, tally)
    output.summary({**content, "limit": limit, **tally.reading()})


def _note(output: Output, tally: Tally) -> None:
    for line in tally.lines():
        output.notice(line)


def main() -> None:
    """Run the command line; what it could not do becomes one line and an exit code."""
    raise_at_sigterm()
    app()


if __name__ == "__main__":
    main()
