"""Models without a trained head, on seeded weights, in every command that takes a model."""

from pathlib import Path

import pytest
import torch

from autolabel import label
from autolabel.run.manifest import read_manifest
from autolabel.run.shards import read_shards
from integrations.images import read_image
from regionspot import load_model
from regionspot.model import CropClassifier
from regionspot.weights import sha256_of
from tests.autolabel.helpers import Autolabel, FinishedRun, read_json
from tests.regionspot.factories import tiny_open_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_open_clip(tmp_path_factory.mktemp("weights"), "tiny-crops")


@pytest.fixture(scope="module")
def crop_run(
    weights: Path,
    finished: FinishedRun,
    autolabel_cli: Autolabel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two photos, with masks."""
    out = tmp_path_factory.mktemp("crops") / "run"
    result = autolabel_cli(
        *("run", finished.photos, "--vocab", finished.words, "--out", out, "--no-fiftyone"),
        *("--model", f"openclip:tiny-crops/{weights}", "--conf-threshold", "0", "--limit", "2"),
        *("--max-boxes", "3"),
    )
    assert result.exit_code == 0, result.output
    return out


def test_a_run_stores_the_embeddings_of_crops(crop_run: Path, weights: Path) -> None:
    manifest = read_manifest(crop_run)
    assert manifest.options.presence_threshold == 0
    assert manifest.model["open_clip"] == sha256_of(weights)
    model = load_model(manifest.options.model, "cpu", dtype=torch.float32)
    assert isinstance(model, CropClassifier)
    for each in read_shards(crop_run, manifest.shards):
        image = read_image(Path(manifest.dataset["root"]) / each.image.file_name)
        (regions,) = model.regions([image], [each.proposals.boxes])
        stored = each.regions.embedding.float()
        torch.testing.assert_close(stored, regions.embedding, rtol=0, atol=0.01)
        assert len(each.regions.masks) == len(each.proposals) > 0
        assert each.regions.class_logits is None
    assert read_json(crop_run / "labels.coco.json")["annotations"]


def test_other_words_need_no_image(
    crop_run: Path, autolabel_cli: Autolabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an image was computed")

    monkeypatch.setattr(CropClassifier, "compute", fail)
    monkeypatch.setattr("regionspot.model.build_sam", fail)
    (tmp_path / "coarse.txt").write_text("animal\nvehicle\n")
    out = tmp_path / "coarse"
    result = autolabel_cli("relabel", crop_run, "--vocab", tmp_path / "coarse.txt", "--out", out)
    assert result.exit_code == 0, result.output
    content = read_json(out / "labels.coco.json")
    assert [each["name"] for each in content["categories"]] == ["animal", "vehicle"]
    assert content["annotations"]


def test_relabel_refuses_other_weights(
    crop_run: Path,
    weights: Path,
    autolabel_cli: Autolabel,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = weights.read_bytes()
    weights.write_bytes(tiny_open_clip(tmp_path, "tiny-other", seed=1).read_bytes())
    monkeypatch.setattr("autolabel.run.relabel.load_model", load_model)  # which keeps no model
    result = autolabel_cli("relabel", crop_run, "--vocab", words, "--out", tmp_path / "out")
    weights.write_bytes(before)
    assert result.exit_code == 1
    assert "made with other weights (open_clip); run `autolabel run`" in result.stderr


def test_explain_draws_words_and_says_that_there_is_no_attention(
    weights: Path, finished: FinishedRun, autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    model = f"openclip:tiny-crops/{weights}"
    photo = next(finished.photos.iterdir())
    result = autolabel_cli(
        *("explain", photo, "--vocab", finished.words, "--out", tmp_path / "why.png"),
        *("--model", model, "--box", "10,10,90,90"),
    )
    assert result.exit_code == 0, result.output
    first, notice, _ = result.stdout.splitlines()
    assert first.startswith("10,10,90,90: ")
    assert notice == f"{model} has no trained head, so there is no attention to draw"
    assert (tmp_path / "why.png").exists()


def test_evaluate_measures_it_beside_crops_without_context(
    weights: Path, crop_run: Path, finished: FinishedRun, autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    result = autolabel_cli(
        *("evaluate", "--dataset", crop_run / "labels.coco.json", "--images", finished.photos),
        *("--model", f"openclip:tiny-crops/{weights}", "--boxes", "gt", "--bootstrap", "0"),
        *("--out", tmp_path / "report", "--limit", "1", "--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    rows = read_json(tmp_path / "report" / "figures.json")["benchmark"]
    assert [each["classifier"] for each in rows] == [
        f"openclip:tiny-crops/{weights}",
        "box crops",
        "mask crops",
    ]


def test_from_python_without_masks(weights: Path, finished: FinishedRun, tmp_path: Path) -> None:
    photo = next(finished.photos.iterdir())
    run = label(
        [photo],
        ["cat", "cup"],
        model=f"openclip:tiny-crops/{weights}",
        boxes={str(photo): [[10, 10, 90, 90]]},
        out=tmp_path / "run",
        fiftyone=False,
        masks=False,
    )
    (row,) = run.rows()
    assert row.word in {"cat", "cup"}
    assert "nanodet-graph" in run.manifest.model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "siglip2-b16"], "of 'ViT-B-16-SigLIP2' cannot be had: "),
        (["--model", "clip-b16", "--checkpoint", "x.safetensors"], "clip-b16 has no trained head"),
        (["--model", "openclip:ViT-B-16/laion"], "there is no file 'laion', and open_clip knows"),
        (["--model", "clip"], "unknown model 'clip'; it must be one of mini, bb, bl, bl-336, clip"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    arguments: list[str],
    message: str,
    finished: FinishedRun,
    autolabel_cli: Autolabel,
    tmp_path: Path,
) -> None:
    result = autolabel_cli(
        *("run", finished.photos, "--vocab", finished.words, "--out", tmp_path / "run"),
        *(*arguments, "--no-fiftyone"),
    )
    assert result.exit_code == 1
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_names_what_open_clip_fetches(
    weights: Path, finished: FinishedRun, autolabel_cli: Autolabel, tmp_path: Path
) -> None:
    command = ["run", finished.photos, "--vocab", finished.words, "--out", tmp_path / "run"]
    command += ["--no-fiftyone", "--dry-run", "--model"]
    result = autolabel_cli(*command, "openclip:ViT-B-16/laion2b_s34b_b88k")
    assert "fetched first: ViT-B-16 laion2b_s34b_b88k" in result.output
    assert "ViT-B-16" not in autolabel_cli(*command, f"openclip:tiny-crops/{weights}").output
    refused = autolabel_cli(*command, "openclip:ViT-B-16/none")
    assert (refused.exit_code, "there is no file 'none'" in refused.stderr) == (1, True)
