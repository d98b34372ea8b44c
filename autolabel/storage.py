"""Images in object storage and on web servers: a copy below the user's cache, kept up to date.

FiftyOne, exports and pictures open images by their path, so each is fetched once, by fsspec.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from integrations.image_kinds import HEIF_SUFFIXES, SUFFIXES
from integrations.progress import Reporter
from regionspot.errors import InputError
from regionspot.files import atomic_path, atomic_write, check_relative, path_inside
from regionspot.weights import cache_folder

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
# What the file systems call the version of a file, the best first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified")
DOWNLOADS = 16  # at once


def is_url(source: object) -> bool:
    """Whether a source of images is an address rather than a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def local_copy(url: str, reporter: Reporter, limit: int | None = None) -> Path:
    """Fetch the images below an address, and return the folder, or the one image, that they are in.

    What was fetched before and has the same size and version is not fetched again; what is no
    longer there is removed from the copy.

    Args:
        url: of a folder or an image, such as `s3://bucket/photos`.
        reporter: receives the progress.
        limit: number of the first images, by name; None: all.

    Raises:
        InputError: there is no such address, access to it is denied, a package for its scheme is
            missing, or it holds no image.
    """
    with _mended(url):
        files, base = fsspec.url_to_fs(url)
        base = files._strip_protocol(base).rstrip("/")
        is_file = not files.isdir(base) and files.isfile(base)
        found = {base: files.info(base)} if is_file else files.find(base, detail=True)
    root = base.rpartition("/")[0] if is_file else base
    versions = dict(_images(found, root, url))
    if not versions:
        what = "holds no image" if found else "is not there, or is an empty folder"
        raise InputError(f"{url} {what}; give a folder of images, or an image")
    chosen = dict(sorted(versions.items())[:limit])
    folder = _folder(url, root)
    index = folder.parent / "index.json"
    known = _read_index(index)
    old = [name for name in chosen if known.get(name) == chosen[name]]
    have = {name for name in old if (folder / name).is_file()}
    for name in known.keys() - versions.keys():
        path_inside(folder, name).unlink(missing_ok=True)
    reporter.message(f"{len(have)} images of {url} are in {folder}")
    reporter.start("fetching", len(chosen), len(have))

    def fetch(name: str) -> str:
        with _mended(f"{url}: {name}"), atomic_path(folder / name) as temporary:
            files.get_file(f"{root}/{name}", str(temporary))
        return name

    try:
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for name in pool.map(fetch, [name for name in chosen if name not in have]):
                have.add(name)
                reporter.advance()
    finally:
        kept = (known.keys() & versions.keys() - chosen.keys()) | have
        images = {name: chosen.get(name, known.get(name)) for name in sorted(kept)}
        content = {"url": url, "images": images}
        with atomic_write(index) as out:
            json.dump(content, out, indent=1, ensure_ascii=False)
    return folder / next(iter(chosen)) if is_file else folder


def _images(
    found: Mapping[str, Mapping[str, Any]], root: str, url: str
) -> Iterator[tuple[str, str]]:
    """Name below the root and version of each image of a listing."""
    for path, info in found.items():
        name = path.removeprefix(root).lstrip("/")
        if PurePosixPath(name).suffix.lower() in SUFFIXES | HEIF_SUFFIXES:
            try:
                check_relative(name)
            except InputError as error:
                raise InputError(f"{url}: {error}") from error
            version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
            yield name, f"{info.get('size')} {version}"


def _folder(url: str, root: str) -> Path:
    """Where the copy lies; its name is that of the folder at the address."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(root).name) or "images"
    scheme = _URL.match(url)
    digest = hashlib.sha256(f"{scheme and scheme['scheme']} {root}".encode()).hexdigest()
    return cache_folder() / "datasets" / digest[:16] / name


def _read_index(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {str(name): str(version) for name, version in content.items()}


@contextmanager
def _mended(url: str) -> Iterator[None]:
    """Let whatever a file system raises be a line that says what to do."""
    scheme = (_URL.match(url) or {"scheme": ""})["scheme"].lower()
    try:
        yield
    except ImportError as error:
        package = _PACKAGES.get(scheme, "a package")
        raise InputError(f"{scheme}:// needs {package}: pip install {package}") from error
    except FileNotFoundError as error:
        raise InputError(f"{url} is not there; give a folder of images, or an image") from error
    except PermissionError as error:
        raise InputError(
            f"{url}: access is denied; set the credentials as {_PACKAGES.get(scheme, 'it')} reads "
            "them, or make it public"
        ) from error
    except Exception as error:  # each of fsspec's file systems has errors of its own
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{url} cannot be read: {what}; then give the command again") from error
