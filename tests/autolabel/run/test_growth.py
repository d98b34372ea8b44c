"""A run on a folder whose images changed ends with the bytes of one run over all of them."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

import autolabel.run.pipeline
from autolabel.cluster import ray_workers
from autolabel.options import Options
from autolabel.run.growth import EarlierRegions, keep_earlier
from autolabel.run.images import ImageRef
from autolabel.run.inference import RegionComputer
from autolabel.run.manifest import RunFolder, read_manifest
from autolabel.run.plan import RunRequest, make_plan
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json

FIRST = ("cat.jpg", "motorcycle.jpg", "rocket.jpg")
VARIES = ("seconds", "started", "sha256", "growth", "fiftyone")


def content(folder: Path) -> dict[str, Any]:
    """Every file's bytes; of the manifest, what does not differ from that of one run."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    files: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths
    }
    manifest = json.loads(files["run.json"])
    manifest["dataset"]["root"] = ""
    files["run.json"] = {key: manifest[key] for key in manifest if key not in VARIES}
    return files


class Growing:
    """A folder with some photos of the finished run, and a run over it in a folder of that name."""

    def __init__(self, cli: Autolabel, finished: FinishedRun, folder: Path) -> None:
        self.cli, self.finished = cli, finished
        self.photos, self.out = folder / "photos", folder / finished.folder.name
        self.photos.mkdir()

    def add(self, *names: str) -> None:
        for name in names:
            shutil.copy(self.finished.photos / name, self.photos / name)

    def run(self, *more: str) -> dict[str, Any]:
        """What the command prints as JSON, and on standard error under "messages"."""
        result = self._call(*more)
        assert result.exit_code == 0, result.output
        return {**json.loads(result.stdout), "messages": result.stderr}

    def fail(self, message: str, *more: str) -> None:
        result = self._call(*more)
        assert result.exit_code != 0
        assert message in result.output

    def _call(self, *more: str) -> Result:
        where = ("--out", str(self.out), "--no-fiftyone", "--json")
        return self.cli("run", self.photos, *self.finished.command[2:], *where, *more)


@pytest.fixture
def growing(autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path) -> Growing:
    growing = Growing(autolabel_cli, finished, tmp_path)
    growing.add(*FIRST)
    assert growing.run()["growth"] is None
    return growing


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that the model is given, as they come."""
    names: list[str] = []
    load = RegionComputer._load

    def noted(self: RegionComputer, ref: ImageRef) -> Any:
        names.append(ref.file_name)
        return load(self, ref)

    monkeypatch.setattr(RegionComputer, "_load", noted)
    return names


def test_new_images_are_labelled_alone_and_the_bytes_are_those_of_one_run(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    growing.add("astronaut.jpg", "coffee.jpg")
    told = growing.run()
    assert told["growth"] == {"new": 2, "changed": 0, "unchanged": 3, "deleted": 0, "left_out": 0}
    assert "2 new, 0 changed, 3 unchanged" in told["messages"]
    assert computed == ["astronaut.jpg", "coffee.jpg"]
    assert content(growing.out) == content(finished.folder)
    assert growing.run()["growth"] == {
        "new": 0,
        "changed": 0,
        "unchanged": 5,
        "deleted": 0,
        "left_out": 0,
    }
    assert len(computed) == 2


def test_an_image_is_changed_by_its_content_and_not_by_its_date(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    (growing.photos / "cat.jpg").touch()
    with Image.open(growing.photos / "rocket.jpg") as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(growing.photos / "rocket.jpg")
    told = growing.run()
    assert told["growth"] == {"new": 0, "changed": 1, "unchanged": 2, "deleted": 0, "left_out": 0}
    assert computed == ["rocket.jpg"]
    growing.add("astronaut.jpg", "coffee.jpg", "rocket.jpg")
    assert growing.run()["growth"] == {
        "new": 2,
        "changed": 1,
        "unchanged": 2,
        "deleted": 0,
        "left_out": 0,
    }
    assert content(growing.out) == content(finished.folder)


def test_bytes_that_the_samples_miss_are_found_by_rehash(
    growing: Growing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, computed: list[str]
) -> None:
    photo = growing.photos / "cat.jpg"
    photo.write_bytes(photo.read_bytes() + bytes(30_000))
    assert growing.run("--rehash")["growth"]["changed"] == 1
    with photo.open("r+b") as file:
        file.seek(-6_000, os.SEEK_END)
        file.write(b"x")
    assert growing.run()["growth"] == {
        "new": 0,
        "changed": 0,
        "unchanged": 3,
        "deleted": 0,
        "left_out": 0,
    }
    assert computed == ["cat.jpg"]
    growing.fail("leave --limit out", "--rehash", "--limit", "1")
    with monkeypatch.context() as patch:
        patch.setattr(autolabel.run.pipeline, "draw_contact_sheet", _disk_is_full)
        growing.fail("the disk is full", "--rehash")
    assert computed == ["cat.jpg", "cat.jpg"]
    growing.run()  # goes on with what the stopped one found
    assert computed == ["cat.jpg", "cat.jpg"]
    assert growing.run("--rehash")["growth"]["changed"] == 0
    once = tmp_path / "once" / growing.out.name
    grown, growing.out = growing.out, once
    growing.run()
    assert content(grown) == content(once)


def test_the_labels_of_deleted_images_are_kept(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    (growing.photos / "motorcycle.jpg").unlink()
    growing.add("astronaut.jpg", "coffee.jpg")
    told = growing.run()
    assert told["growth"] == {"new": 2, "changed": 0, "unchanged": 2, "deleted": 1, "left_out": 0}
    assert "1 deleted, whose labels are kept" in told["messages"]
    assert computed == ["astronaut.jpg", "coffee.jpg"]
    for name in ("labels.coco.json", "labels.lvis.json", "skipped.jsonl"):
        assert (growing.out / name).read_bytes() == (finished.folder / name).read_bytes()
    assert growing.run()["growth"] == {
        "new": 0,
        "changed": 0,
        "unchanged": 4,
        "deleted": 1,
        "left_out": 0,
    }


def stop(growing: Growing, index: int) -> None:
    """Run with a disk that is full when a shard is written."""
    write = autolabel.run.pipeline.write_shard

    def stopped(folder: Path, number: int, images: Any) -> Any:
        return _disk_is_full() if number == index else write(folder, number, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autolabel.run.pipeline, "write_shard", stopped)
        growing.fail("the disk is full")


def test_growing_that_was_stopped_goes_on(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    growing.add("astronaut.jpg", "coffee.jpg")
    stop(growing, 2)
    manifest = read_manifest(growing.out)
    assert (manifest.status, len(manifest.shards)) == ("running", 2)
    told = growing.run()["growth"]
    assert told == {"new": 2, "changed": 0, "unchanged": 3, "deleted": 0, "left_out": 0}
    assert computed == ["astronaut.jpg", "coffee.jpg"]
    assert content(growing.out) == content(finished.folder)


def test_a_run_that_was_stopped_goes_on_with_a_folder_that_changed(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path, computed: list[str]
) -> None:
    growing = Growing(autolabel_cli, finished, tmp_path)
    growing.add("astronaut.jpg", "cat.jpg", "coffee.jpg")
    shutil.copy(finished.photos / "rocket.jpg", growing.photos / "a.jpg")
    stop(growing, 1)
    (growing.photos / "a.jpg").unlink()
    growing.add("motorcycle.jpg")
    told = growing.run("--dry-run")
    expected = {"new": 3, "changed": 0, "unchanged": 1, "deleted": 0, "left_out": 1}
    assert told["growth"] == expected
    computed.clear()
    stop(growing, 1)
    assert "astronaut.jpg" not in computed
    growing.add("rocket.jpg")
    computed.clear()
    told = growing.run()
    expected = {"new": 3, "changed": 0, "unchanged": 2, "deleted": 0, "left_out": 1}
    assert told["growth"] == expected
    assert "3 new, 0 changed, 2 unchanged; 1 deleted, which are left out" in told["messages"]
    assert computed == ["coffee.jpg", "motorcycle.jpg", "rocket.jpg"]
    assert content(growing.out) == content(finished.folder)


def test_images_that_change_while_a_run_grows_are_labelled_too(
    growing: Growing, finished: FinishedRun, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    growing.add("astronaut.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(autolabel.run.pipeline, "draw_contact_sheet", _disk_is_full)
        growing.fail("the disk is full")
    growing.add("coffee.jpg")
    assert growing.run()["growth"] == {
        "new": 2,
        "changed": 0,
        "unchanged": 3,
        "deleted": 0,
        "left_out": 0,
    }
    assert computed == ["astronaut.jpg", "coffee.jpg"]
    assert content(growing.out) == content(finished.folder)


def _disk_is_full(*_: object) -> None:
    raise OSError("the disk is full")


def test_a_damaged_shard_is_computed_again(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    (growing.out / "regions" / "000000.safetensors").write_bytes(b"torn")
    growing.add("astronaut.jpg", "coffee.jpg")
    assert growing.run()["growth"] == {
        "new": 4,
        "changed": 0,
        "unchanged": 1,
        "deleted": 0,
        "left_out": 0,
    }
    assert sorted(computed) == ["astronaut.jpg", "cat.jpg", "coffee.jpg", "motorcycle.jpg"]
    assert content(growing.out) == content(finished.folder)


def test_other_words_are_another_run(growing: Growing, tmp_path: Path) -> None:
    growing.add("coffee.jpg")
    words = tmp_path / "other.txt"
    words.write_text("dog\n")
    options = ("--out", growing.out, "--no-fiftyone", "--shard-size", "2")
    result = growing.cli("run", growing.photos, "--vocab", words, *options)
    assert result.exit_code == 1
    assert "holds a run with other words" in result.output


def test_a_plan_tells_what_is_new(growing: Growing) -> None:
    growing.add("coffee.jpg")
    told = growing.run("--dry-run")
    assert told["growth"] == {"new": 1, "changed": 0, "unchanged": 3, "deleted": 0, "left_out": 0}
    assert "a run that grows: 1 new, 0 changed, 3 unchanged" in told["state"]


def test_a_worker_keeps_the_regions_of_unchanged_images(
    growing: Growing, finished: FinishedRun, computed: list[str]
) -> None:
    growing.add("astronaut.jpg", "coffee.jpg")
    plan = make_plan(
        RunRequest(
            source=str(growing.photos),
            words=finished.words,
            out=growing.out,
            options=Options(shard_size=2, batch_size=1, conf_threshold=0.05),
            fiftyone=False,
        )
    )
    assert plan.before is not None
    begun = replace(
        plan.wanted,
        model=finished.manifest.model,
        growth=plan.growth,
        earlier=keep_earlier(growing.out, plan.before),
    )
    RunFolder(growing.out, begun).update()
    images = plan.source.images
    job = ray_workers._Job(
        replace(plan, source=replace(plan.source, images=())), growing.out, begun.started, "cpu"
    )
    actor = ray_workers.ShardActor(job, cpus=2)
    assert isinstance(actor._earlier, EarlierRegions)
    actor((0, images[:2]))
    assert computed == ["astronaut.jpg"]
    shard = finished.manifest.shards[0].file
    assert (growing.out / shard).read_bytes() == (finished.folder / shard).read_bytes()


def test_a_list_grows_where_its_first_images_are_of_one_folder(
    autolabel_cli: Autolabel, finished: FinishedRun, tmp_path: Path
) -> None:
    """The folder that all images have in common moves up, and with it the names of all images."""
    for name, folder in (("cat.jpg", "a"), ("rocket.jpg", "a"), ("coffee.jpg", "b")):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(finished.photos / name, tmp_path / folder / name)
    paths, grown, at_once = tmp_path / "list.txt", tmp_path / "grown/run", tmp_path / "once/run"
    options = (*finished.command[2:], "--no-fiftyone", "--json")
    paths.write_text("a/cat.jpg\na/rocket.jpg\n")
    assert autolabel_cli("run", paths, *options, "--out", grown).exit_code == 0
    paths.write_text("b/coffee.jpg\na/cat.jpg\na/rocket.jpg\n")
    told = json.loads(autolabel_cli("run", paths, *options, "--out", grown).stdout)
    assert told["growth"] == {"new": 1, "changed": 0, "unchanged": 2, "deleted": 0, "left_out": 0}
    assert autolabel_cli("run", paths, *options, "--out", at_once).exit_code == 0
    assert content(grown) == content(at_once)
    names = [each["file_name"] for each in read_json(grown / "labels.coco.json")["images"]]
    assert names == ["b/coffee.jpg", "a/cat.jpg", "a/rocket.jpg"]
