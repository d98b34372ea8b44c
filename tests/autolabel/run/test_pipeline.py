"""`autolabel run` on real photos: the run folder, and what the same folder allows afterwards."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lvis import LVIS
from PIL import Image
from pycocotools.coco import COCO

from autolabel.options import Options
from autolabel.run import pipeline
from autolabel.run.inference import StageTimer
from autolabel.run.manifest import RunFolder, Shard, read_manifest
from autolabel.run.plan import RunRequest, make_plan
from autolabel.run.shards import shard_file
from integrations.annotations import as_rle
from integrations.progress import NullReporter
from integrations.vocabulary_file import read_words
from regionspot.types import decode_mask
from tests.autolabel.helpers import PHOTOS, Autolabel, FinishedRun, read_json


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_run_folder_holds_what_the_readme_says(finished: FinishedRun) -> None:
    assert sorted(snapshot(finished.folder)) == [
        "contact_sheet.png",
        "labels.coco.json",
        "labels.lvis.json",
        *(f"regions/{number:06d}.safetensors" for number in range(3)),
        "run.json",
        "skipped.jsonl",
    ]


def test_the_manifest_tells_all_of_the_run(finished: FinishedRun) -> None:
    manifest = finished.manifest
    words = read_words(finished.words)
    assert manifest.status == "complete"
    assert manifest.dataset["images"] == len(PHOTOS)
    assert manifest.vocabulary["words"] == list(words.names)
    assert manifest.vocabulary["sha256"] == words.sha256
    assert manifest.options.conf_threshold == 0.05
    assert {"head", "torch", "mobile-sam-encoder", "precision", "device"} <= manifest.model.keys()
    assert [shard.images for shard in manifest.shards] == [2, 2, 1]
    assert manifest.counts["labelled"] == len(PHOTOS)
    assert manifest.counts["skipped"] == 0
    assert manifest.counts["labels"] == sum(manifest.counts["by_word"].values()) > 0
    assert set(manifest.seconds) >= {"detector", "localizer", "encoder+head", "writing"}


def test_the_table_at_the_end_tells_labels_and_seconds(finished: FinishedRun) -> None:
    counts = finished.manifest.counts
    common = max(counts["by_word"], key=counts["by_word"].get)
    for message in (
        f"labels {counts['labels']}",
        f"{common} {counts['by_word'][common]}",
        "skipped 0",
        "encoder+head",
        "contact_sheet.png",
        "autolabel review",
    ):
        assert message in " ".join(finished.output.split())


def test_the_coco_file_is_one_for_pycocotools(finished: FinishedRun) -> None:
    content = read_json(finished.folder / "labels.coco.json")
    names = list(read_words(finished.words).names)
    assert [each["name"] for each in content["categories"]] == names
    assert [each["id"] for each in content["categories"]] == list(range(1, len(names) + 1))
    files = [each["file_name"] for each in content["images"]]
    assert files == [f"{name}.jpg" for name in sorted(PHOTOS)]
    coco = COCO(finished.folder / "labels.coco.json")
    for annotation in coco.dataset["annotations"]:
        assert 0.05 <= annotation["score"] <= 1
        assert annotation["runner_up"] in names
        assert 0 <= annotation["margin"] <= 1
        assert 0 <= annotation["presence"] <= 1
        assert annotation["area"] == coco.annToMask(annotation).sum()


def test_a_mask_stays_in_its_box(finished: FinishedRun) -> None:
    content = read_json(finished.folder / "labels.coco.json")
    sizes = {each["id"]: (each["width"], each["height"]) for each in content["images"]}
    for annotation in content["annotations"]:
        mask = decode_mask(as_rle(annotation["segmentation"], *sizes[annotation["image_id"]]))
        x, y, width, height = annotation["bbox"]
        outside = mask.copy()
        outside[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1] = False
        assert not outside.any()


def test_the_lvis_file_claims_no_absence(finished: FinishedRun) -> None:
    lvis = LVIS(str(finished.folder / "labels.lvis.json"))
    ids = sorted(lvis.cats)
    assert len(lvis.anns) == finished.manifest.counts["labels"]
    for image in lvis.imgs.values():
        assert image["neg_category_ids"] == []
        assert image["not_exhaustive_category_ids"] == ids


def test_the_contact_sheet_is_a_picture(finished: FinishedRun) -> None:
    with Image.open(finished.folder / "contact_sheet.png") as sheet:
        assert sheet.width == 1680
        assert sheet.height > 400


def test_the_same_command_again_changes_nothing(
    finished: FinishedRun, autolabel_cli: Autolabel
) -> None:
    before = snapshot(finished.folder)
    result = autolabel_cli(*finished.command)
    assert result.exit_code == 0
    assert "complete already" in result.output
    assert snapshot(finished.folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--iou", "0.9"], "other --iou;"),
        (["--no-masks", "--conf-threshold", "0.5"], "other --conf-threshold, --masks;"),
        (["--label-field", "other"], "other --label-field;"),
        (["--no-fiftyone"], "other --no-fiftyone;"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    finished: FinishedRun, autolabel_cli: Autolabel, change: list[str], message: str
) -> None:
    before = snapshot(finished.folder)
    result = autolabel_cli(*finished.command, *change)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert snapshot(finished.folder) == before


def test_other_words_and_images_are_another_run(
    finished: FinishedRun, autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("zebra\n")
    result = autolabel_cli(*finished.command, "--vocab", other)
    assert "holds a run with other words;" in result.stderr
    fewer = tmp_path / "fewer"
    shutil.copytree(finished.folder, tmp_path / "run")
    shutil.copytree(finished.photos, fewer)
    command = [*finished.command, "--out", tmp_path / "run"]
    result = autolabel_cli("run", fewer, *command[2:])
    assert "holds a run with other dataset;" in result.stderr


def test_overwrite_starts_anew(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(finished.photos / "cat.jpg", one)
    command = ["run", one, "--vocab", finished.words, "--out", out, "--no-fiftyone"]
    assert autolabel_cli(*command, "--shard-size", 1).exit_code == 0
    shutil.copy(finished.photos / "coffee.jpg", one)
    assert autolabel_cli(*command).exit_code == 1
    (out / "a note of mine.txt").write_text("kept")
    assert autolabel_cli(*command, "--overwrite", "--no-masks").exit_code == 0
    content = read_json(out / "labels.coco.json")
    assert [each["file_name"] for each in content["images"]] == ["cat.jpg", "coffee.jpg"]
    # A box without a mask has its outline, a mask has run lengths.
    assert all(isinstance(each["segmentation"], list) for each in content["annotations"])
    assert (out / "a note of mine.txt").exists()


def test_a_folder_of_something_else_is_never_written_to(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    command = ["run", finished.photos, "--vocab", finished.words, "--out", tmp_path]
    for more in ([], ["--overwrite"]):
        result = autolabel_cli(*command, *more)
        assert result.exit_code == 1
        assert "is no run folder and not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["run", finished.photos, "--vocab", finished.words, "--out", out, "--dry-run"]
    result = autolabel_cli(*command)
    assert result.exit_code == 0
    for message in (
        "5 in",
        "6: person, cat, cup",
        "mini, weights here",
        "new",
        "predictions",
        "MB",
    ):
        assert message in result.output
    assert not out.exists()


def test_a_dry_run_checks_the_trained_head(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    command = ["run", finished.photos, "--vocab", finished.words, "--out", tmp_path / "run"]
    result = autolabel_cli(*command, "--dry-run", "--checkpoint", tmp_path / "gone.safetensors")
    assert result.exit_code == 1
    assert "gone.safetensors is not a checkpoint" in result.stderr


def test_a_run_of_another_schema_version_is_one_line_and_can_be_overwritten(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.folder, out)
    content = read_json(out / "run.json")
    del content["schema_version"]
    (out / "run.json").write_text(json.dumps(content))
    command = [*finished.command, "--out", out, "--no-fiftyone"]
    for refused in (command, ["relabel", out, "--vocab", finished.words]):
        result = autolabel_cli(*refused)
        assert result.exit_code == 1
        assert "run.json: schema_version must be 3, got none; run again with" in result.stderr
        assert result.stderr.count("\n") == 1
    result = autolabel_cli(*command, "--overwrite", "--dry-run")
    assert result.exit_code == 0
    assert "holds a run, which is overwritten" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf-threshold", "1.5"], "--conf-threshold must be from 0 to 1, got 1.5"),
        (["--batch-size", "0"], "--batch-size must be 1 or more"),
        (["--model", "huge"], "unknown model 'huge'; it must be one of mini, bb"),
        (["--detector", "yolo"], "--detector: 'yolo' is unknown; it must be one of nanodet"),
        (["--device", "abacus"], "--device must be one of auto, cpu, cuda, cuda:N, mps"),
        (["--label-field", "my labels"], "--label-field must be letters"),
        (["--vocab", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_what_cannot_start_is_one_line_and_exit_code_1(
    autolabel_cli: Autolabel,
    finished: FinishedRun,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    command = ["run", finished.photos, "--vocab", finished.words, "--out", out, *arguments]
    result = autolabel_cli(*command)
    assert result.exit_code == 1
    assert message in result.stderr.replace("starting FiftyOne's database\n", "")
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not out.exists()


def test_two_at_once_do_not_mix(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    from autolabel.run.manifest import locked

    out = tmp_path / "run"
    with locked(out):
        result = autolabel_cli(
            *("run", finished.photos, "--vocab", finished.words, "--out", out, "--no-fiftyone")
        )
    assert result.exit_code == 1
    assert "another autolabel is at work" in result.stderr


def test_a_run_on_tiles_names_them_and_keeps_them(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "tiled"
    command = ["run", finished.photos / "cat.jpg", "--vocab", finished.words, "--out", out]
    command.append("--no-fiftyone")
    result = autolabel_cli(*command, "--tile", 256, "--tile-overlap", 0.25)
    assert result.exit_code == 0, result.output
    options = read_json(out / "run.json")["options"]
    assert (options["tile"], options["tile_overlap"]) == (256, 0.25)
    assert read_json(out / "labels.coco.json")["annotations"]
    result = autolabel_cli(*command, "--tile", 256)
    assert result.exit_code == 1
    assert "holds a run with other --tile-overlap" in result.stderr
    result = autolabel_cli(*command, "--tile", 256, "--boxes", "boxes.json")
    assert "--tile is for detectors" in result.stderr


def test_a_manifest_of_many_shards_is_written_for_some_of_them_at_a_time(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(shard_size=1)
    source, out = str(finished.photos), tmp_path / "run"
    plan = make_plan(
        RunRequest(source=source, words=finished.words, out=out, options=options, fiftyone=False)
    )
    plan.folder.mkdir()
    run, entered = RunFolder(plan.folder, plan.wanted), []

    def write(run: RunFolder, todo: pipeline.Todo) -> Iterator[pipeline.WrittenShard]:
        for index in todo:
            file = shard_file(index)
            shard = Shard(file=file, images=1, skipped=0, regions=0, sha256="0")
            yield pipeline.WrittenShard(index, shard)
            entered.append(len(run.manifest.shards))

    monkeypatch.setattr(pipeline, "SHARDS_AT_ONCE", 2)  # one half of them
    pipeline.compute_shards(run, plan, write, StageTimer(), NullReporter())
    assert entered == [1, 1, 3, 3, 3]
    assert len(read_manifest(plan.folder).shards) == len(PHOTOS)
