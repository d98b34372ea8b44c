"""Detection models of transformers, loaded from a folder by the real code, without a network."""

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from integrations.detectors import build_detector, detector_weights
from integrations.detectors.hugging_face import MAX_QUERIES, ClosedSetDetector, ZeroShotDetector
from regionspot.boxes import box_iou
from regionspot.errors import InputError
from regionspot.types import Proposals
from regionspot.weights import sha256_of
from tests.integrations.detectors.tiny_models import CLOSED_SET, LETTERS, ZERO_SHOT

WORDS = ("cat", "dog", "coffee cup")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: make(tmp_path_factory.mktemp(name)) for name, make in (ZERO_SHOT | CLOSED_SET).items()
    }


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def check(found: Proposals, width: int, height: int) -> None:
    x1, y1, x2, y2 = found.boxes.T
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width)).all()
    assert ((y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
    assert (np.diff(found.score) <= 0).all()
    overlaps = box_iou(found.boxes, found.boxes) - np.eye(len(found))
    assert (overlaps <= 0.65 + 1e-5).all()


@pytest.mark.parametrize("name", [*ZERO_SHOT, *CLOSED_SET])
@pytest.mark.parametrize(("width", "height"), [(90, 60), (40, 120), (1, 1)])
def test_boxes_are_in_pixels_of_the_image(
    name: str, width: int, height: int, folders: dict[str, Path]
) -> None:
    detector = build_detector(f"hf:{folders[name]}", words=WORDS, min_score=0.0, max_boxes=5)
    found = detector.detect(noise(width, height))
    check(found, width, height)
    assert 1 <= len(found) <= 5
    again = detector.detect(noise(width, height))
    assert found.boxes.tobytes() == again.boxes.tobytes()


@pytest.mark.parametrize("name", [*ZERO_SHOT, *CLOSED_SET])
def test_boxes_grow_with_the_image(name: str, folders: dict[str, Path]) -> None:
    detector = build_detector(f"hf:{folders[name]}", words=WORDS, min_score=0.0)
    grey = np.full((60, 90, 3), 128, np.uint8)
    large = np.full((180, 270, 3), 128, np.uint8)
    assert np.allclose(detector.detect(grey).boxes * 3, detector.detect(large).boxes, atol=1)


@pytest.mark.parametrize("name", CLOSED_SET)
def test_a_model_with_classes_gives_the_score_of_each(name: str, folders: dict[str, Path]) -> None:
    detector = build_detector(f"hf:{folders[name]}", min_score=0.0, nms_iou=1.0)
    assert isinstance(detector, ClosedSetDetector)
    image = noise(90, 60)
    found = detector.detect(image)
    assert found.class_names == tuple(detector.model.config.id2label.values())
    assert found.class_scores is not None
    assert np.array_equal(found.class_scores.max(axis=1), found.score)
    # The library's own: a row for each box, or for each box and class.
    inputs = detector.processor(images=[Image.fromarray(image)], return_tensors="pt")
    with torch.inference_mode():
        outputs = detector.model(**inputs)
    (theirs,) = detector.processor.post_process_object_detection(
        outputs, threshold=0.0, target_sizes=[(60, 90)]
    )
    for box, label, score in zip(*(theirs[k] for k in ("boxes", "labels", "scores")), strict=True):
        near = np.abs(found.boxes - box.numpy()).max(axis=1) < 0.01
        assert (np.abs(found.class_scores[near, int(label)] - float(score)) < 1e-4).any()


def test_grounding_dino_reads_all_words_in_prompts_that_fit(folders: dict[str, Path]) -> None:
    words = [first + second + " toy" for first in LETTERS for second in LETTERS[:5]]
    detector = build_detector(f"hf:{folders['grounding-dino']}", words=words, min_score=0.0)
    assert isinstance(detector, ZeroShotDetector)
    assert [word for prompt in detector.prompts for word in prompt] == words
    lengths = []
    for prompt in detector.prompts:
        text = " ".join(f"{word}." for word in prompt)
        lengths.append(len(detector.processor.tokenizer(text)["input_ids"]))
    assert max(lengths) <= 256
    assert len(lengths) == -(-sum(length - 2 for length in lengths) // 252)  # six tokens a word
    check(detector.detect(noise(90, 60)), 90, 60)


def test_the_boxes_of_all_prompts_are_joined(folders: dict[str, Path]) -> None:
    detector = build_detector(
        f"hf:{folders['grounding-dino']}", words=WORDS, min_score=0.0, nms_iou=1.0, max_boxes=99
    )
    assert isinstance(detector, ZeroShotDetector)
    image = noise(90, 60)
    detector.prompts = (("cat",), ("dog", "coffee cup"))
    parts = []
    for prompt in detector.prompts:
        alone = build_detector(
            f"hf:{folders['grounding-dino']}", words=prompt, min_score=0.0, nms_iou=1.0
        )
        parts.append(alone.detect(image))
    found = detector.detect(image)
    assert len(found) == sum(map(len, parts))
    together = np.sort(np.concatenate([part.score for part in parts]))[::-1]
    assert np.array_equal(found.score, together)


def test_a_word_with_a_full_stop_is_one_phrase(folders: dict[str, Path]) -> None:
    detector = build_detector(f"hf:{folders['grounding-dino']}", words=["St. Bernard", "dog"])
    check(detector.detect(noise(30, 30)), 30, 30)


def test_owlv2_gets_few_words_at_once(folders: dict[str, Path]) -> None:
    words = [first + second for first in LETTERS for second in LETTERS[:5]]
    detector = build_detector(f"hf:{folders['owlv2']}", words=words, min_score=0.0)
    assert isinstance(detector, ZeroShotDetector)
    assert list(map(len, detector.prompts)) == [MAX_QUERIES, len(words) - MAX_QUERIES]
    long = build_detector(f"hf:{folders['owlv2']}", words=["a very long name of a thing"])
    check(long.detect(noise(30, 30)), 30, 30)


def test_what_cannot_be_loaded_is_said_in_one_line(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"hf:nobody/nothing cannot be loaded: .* folder of a"):
        build_detector("hf:nobody/nothing")
    with pytest.raises(InputError, match=r"cannot be loaded: .* folder of a downloaded model"):
        build_detector(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="is a bert and no detection model"):
        build_detector(f"hf:{tmp_path}")
    with pytest.raises(InputError, match="looks for words, and there are none"):
        build_detector(f"hf:{folders['owlv2']}")
    with pytest.raises(InputError, match=r"reads 254 tokens, and 'a a.* has 301; shorten it"):
        build_detector(f"hf:{folders['grounding-dino']}", words=["a " * 300])


def test_nothing_is_unpickled(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        if (path := folders["detr"] / name).exists():
            (tmp_path / name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        build_detector(f"hf:{tmp_path}")


def test_the_sha256_of_weights_of_a_folder(folders: dict[str, Path]) -> None:
    folder = folders["detr"]
    names = f"nanodet,hf:{folder}"
    found = detector_weights(names)
    assert found == {f"hf:{folder}/model.safetensors": sha256_of(folder / "model.safetensors")}


def test_the_sha256_of_weights_in_several_files(folders: dict[str, Path], tmp_path: Path) -> None:
    model = hf.DetrForObjectDetection.from_pretrained(folders["detr"])
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    names = {path.name for path in tmp_path.glob("*.safetensors*")}
    assert len(names) > 2
    found = detector_weights(f"hf:{tmp_path}")
    assert found == {f"hf:{tmp_path}/{name}": sha256_of(tmp_path / name) for name in names}


def test_the_sha256_of_weights_of_a_repository_in_the_cache(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--somebody--detr"
    shutil.copytree(folders["detr"], repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    expected = sha256_of(folders["detr"] / "model.safetensors")
    found = detector_weights("hf:somebody/detr")
    assert found == {"hf:somebody/detr/model.safetensors": expected}
