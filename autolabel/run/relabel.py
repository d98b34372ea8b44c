"""`autolabel relabel`: other words for the images of a run, from its stored regions."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from autolabel.options import Options
from autolabel.run.images import Omitted
from autolabel.run.manifest import (
    COMPLETE,
    REGIONS,
    RUNNING,
    SKIPPED,
    FiftyOneTarget,
    Manifest,
    clear,
    held,
    read_manifest,
    write_manifest,
)
from autolabel.run.outputs import Outputs
from autolabel.run.pipeline import Reporter, Result, finish
from autolabel.run.plan import describe, look_for_run
from autolabel.run.postprocess import Labeller
from autolabel.run.timer import Clock
from integrations.fiftyone import dataset as fiftyone_dataset
from integrations.fiftyone.session import connect
from integrations.vocabulary_file import read_words
from regionspot import RegionSpot, load_model
from regionspot.errors import InputError

_SHA256_DIGITS = 64


@dataclass(frozen=True)
class RelabelRequest:
    """What a person asks; what is None is as in the first run.

    Attributes:
        run: folder of a complete run.
        out: folder of the new one; None: beside the first, named after both.
        label_field: of FiftyOne's samples; None: the first run's and the words' name.
        overwrite: whether to start anew where there is a run, a label field or both.
        checkpoint: where the first run's head lies now.
    """

    run: Path
    vocab: Path
    out: Path | None = None
    label_field: str | None = None
    conf_threshold: float | None = None
    presence_threshold: float | None = None
    iou: float | None = None
    overwrite: bool = False
    checkpoint: Path | None = None


def relabel(request: RelabelRequest, reporter: Reporter) -> Result:
    """Give the stored regions of a run other words, in a run folder and a field of their own.

    Raises:
        InputError: nothing could start.
    """
    source = read_manifest(request.run)
    if source.status != COMPLETE:
        raise InputError(f"{request.run} is not complete; give its command again and it goes on")
    words = read_words(request.vocab)
    folder = request.out or request.run.with_name(f"{request.run.name}-{request.vocab.stem}")
    if folder.resolve() == request.run.resolve():
        raise InputError(f"{folder} is the run itself; choose another --out")
    wanted = dataclasses.replace(
        source,
        name=folder.resolve().name,
        status=RUNNING,
        vocabulary=describe(words),
        options=new_options(request, source.options),
        regions_of=str(request.run.resolve()),
        counts={},
        seconds={},
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    before = look_for_run(folder, wanted, request.overwrite)
    if before is not None and before.status == COMPLETE and not request.overwrite:
        reporter.say("this run is complete already; --overwrite makes it again")
        return Result(folder, before)
    if source.fiftyone is not None:
        reporter.say("starting FiftyOne's database")
        wanted = dataclasses.replace(wanted, fiftyone=choose_field(request, source, wanted, before))
    reporter.say(f"loading the model {source.options.model}")
    model = load_model(
        wanted.options.model, wanted.options.device, wanted.options.checkpoint or None
    )
    check_same_weights(model, source)
    with held(folder):
        write_manifest(folder, wanted)
        clear(folder)
        share_regions(request.run, folder, wanted)
        labeller = Labeller(model, model.vocabulary(words.as_mapping()), wanted.options)
        outputs = Outputs(folder, wanted, labeller)
        omitted = read_omitted(request.run)
        return finish(outputs, Clock(), omitted, new_samples=False, reporter=reporter)


def new_options(request: RelabelRequest, options: Options) -> Options:
    """The options of the first run with those that were given anew.

    Raises:
        InputError: a threshold is no share, or is below what the stored regions go down to.
    """
    given = {
        name: value
        for name in ("conf_threshold", "presence_threshold", "iou")
        if (value := getattr(request, name)) is not None
    }
    if request.checkpoint:
        given["checkpoint"] = str(request.checkpoint.resolve())
    changed = dataclasses.replace(options, **given)
    changed.check()
    if changed.conf_threshold < options.conf_threshold:
        raise InputError(
            f"--conf-threshold must be {options.conf_threshold} or more: boxes of a lower score "
            "were not kept by the first run"
        )
    return changed


def choose_field(
    request: RelabelRequest, source: Manifest, wanted: Manifest, before: Manifest | None
) -> FiftyOneTarget:
    """A label field of its own in the dataset of the first run.

    Raises:
        InputError: the field is there already.
    """
    target = source.fiftyone
    assert target is not None
    connect(Path(target.database) if target.database else None)
    suffix = "".join(c if c.isascii() and c.isalnum() else "_" for c in request.vocab.stem)
    field = request.label_field or f"{target.label_field}_{suffix}"
    fiftyone_dataset.check_field_name(field)
    was = before.fiftyone if before else None
    if was is not None and (was.dataset, was.label_field) == (target.dataset, field):
        return was
    if fiftyone_dataset.has_field(target.dataset, field) and not request.overwrite:
        raise InputError(
            f"FiftyOne's dataset {target.dataset!r} has a field {field!r} already; "
            "choose another --label-field, or say --overwrite"
        )
    key = fiftyone_dataset.free_run_key(target.dataset, wanted.name)
    return FiftyOneTarget(target.dataset, field, key, target.database)


def check_same_weights(model: RegionSpot, source: Manifest) -> None:
    """Refuse a model whose embeddings are not those that were stored.

    Raises:
        InputError: a file of weights has changed since.
    """
    changed = [
        name
        for name, value in model.provenance().items()
        if len(value) == _SHA256_DIGITS and source.model.get(name) != value
    ]
    if changed:
        raise InputError(
            f"the regions were made with other weights ({', '.join(changed)}); run `autolabel run`"
        )


def share_regions(source: Path, folder: Path, manifest: Manifest) -> None:
    """The shards of the first run, by a hard link where the file system has them."""
    (folder / REGIONS).mkdir(exist_ok=True)
    for shard in manifest.shards:
        try:
            os.link(source / shard.file, folder / shard.file)
        except FileNotFoundError as error:
            raise InputError(f"{source / shard.file} is gone; make that run again") from error
        except OSError:
            shutil.copyfile(source / shard.file, folder / shard.file)


def read_omitted(folder: Path) -> list[Omitted]:
    """What a run left out while it listed its images; images that failed are in the shards."""
    lines = (folder / SKIPPED).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [Omitted(**record) for record in records if "image_id" not in record]
