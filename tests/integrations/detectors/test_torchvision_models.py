"""Detection models of torchvision, with seeded weights where the published ones would lie."""

import socket
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from integrations.detectors import build_detector, detector_weights
from regionspot.errors import InputError
from regionspot.weights import sha256_of

SMALL = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which torch keeps what it has fetched."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    model = get_model(SMALL, weights=None, weights_backbone=None, num_classes=91)
    path = folder / "checkpoints" / Path(urlparse(get_model_weights(SMALL).DEFAULT.url).path).name
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    return folder


@pytest.fixture(autouse=True)
def torch_home(hub: Path) -> None:
    torch.hub.set_dir(hub)


def test_boxes_scores_and_classes(hub: Path) -> None:
    detector = build_detector(f"torchvision:{SMALL}", min_score=0.001, max_boxes=20)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    found = detector.detect(image)
    assert 1 <= len(found) <= 20
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([90, 60, 90, 60])).all()
    assert (np.diff(found.score) <= 0).all()
    assert len(found.class_names) == 80
    assert found.class_names[:2] == ("person", "bicycle")
    assert found.class_names[-1] == "toothbrush"
    assert found.class_scores is not None
    assert np.allclose(found.class_scores.max(axis=1), found.score)
    assert (found.class_scores >= 0).all()
    raw = detector.model([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]  # type: ignore[attr-defined]
    names = get_model_weights(SMALL).DEFAULT.meta["categories"]
    best = raw["scores"].argmax()
    assert found.score[0] == pytest.approx(float(raw["scores"][best]))
    own = found.class_names.index(names[int(raw["labels"][best])])
    assert found.class_scores[0, own] == found.score[0]


def test_the_same_weights_by_name(hub: Path) -> None:
    named = build_detector(f"torchvision:{SMALL}/COCO_V1", min_score=0.001)
    assert named.name == f"torchvision:{SMALL}/COCO_V1"


def test_the_sha256_of_the_weights(hub: Path) -> None:
    (file,) = (hub / "checkpoints").iterdir()
    found = detector_weights(f"nanodet,torchvision:{SMALL}")
    assert found == {f"torchvision:{SMALL}/{file.name}": sha256_of(file)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet18", "resnet18 is unknown; torchvision has .*fasterrcnn_resnet50_fpn"),
        (f"torchvision:{SMALL}/V9", "there are no such weights; there are COCO_V1"),
        ("torchvision", "must be torchvision:NAME"),
    ],
)
def test_unknown_names_are_said(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(name)


def test_without_a_network_it_says_where_the_file_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror("no network")

    torch.hub.set_dir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(InputError, match=rf"cannot be had .* put https.*pth into {tmp_path}"):
        build_detector(f"torchvision:{SMALL}")
