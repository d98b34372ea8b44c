"""Frozen weights: from real packages and a real server on this machine into a cache."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from regionspot import weights
from regionspot.errors import InputError
from regionspot.sources import PythonPackage, Source, Url
from regionspot.weights import WEIGHTS, WeightFile

CONTENT = b"weights" * 1000
TOKENIZER = "minilm-tokenizer"
List = Callable[..., WeightFile]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache ä"
    monkeypatch.setenv("REGIONSPOT_CACHE", str(folder))
    return folder


@pytest.fixture
def listed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> List:
    """Adds a file to the table for one test."""

    def add(*sources: Source, used_by: tuple[str, ...] = ("bb",)) -> WeightFile:
        digest = hashlib.sha256(CONTENT).hexdigest()
        file = WeightFile("tower", "tower.bin", "MIT", digest, 1, sources, used_by)
        monkeypatch.setitem(WEIGHTS, file.name, file)
        return file

    return add


@pytest.fixture
def server() -> Iterator[str]:
    """Address of a server that has `/tower`, breaks off `/cut`, talks nonsense for `/junk`, and has
    nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/junk":
                self.wfile.write(b"no status line\r\n\r\n")
                return
            if self.path not in ("/tower", "/cut"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/tower" else CONTENT[:100])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def nothing_listens(server: str) -> str:
    """An address that refuses, as a machine without network does."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    return f"http://127.0.0.1:{port}"


def test_every_file_is_listed_in_full() -> None:
    for name, file in WEIGHTS.items():
        assert name == file.name
        assert len(file.sha256) == 64
        assert file.sources
        assert file.megabytes > 0
        assert file.licence
    assert len({file.filename for file in WEIGHTS.values()}) == len(WEIGHTS)


def test_mini_needs_no_download_address() -> None:
    for file in WEIGHTS.values():
        if "mini" in file.used_by:
            assert not any(isinstance(source, Url) for source in file.sources)


@pytest.mark.parametrize("name", [TOKENIZER, "efficientnet-lite2"])
def test_pull_from_an_installed_package(cache: Path, name: str) -> None:
    assert not weights.verify(WEIGHTS[name])
    path = weights.pull(name)
    assert path == cache / WEIGHTS[name].filename
    assert weights.sha256_of(path) == WEIGHTS[name].sha256
    assert weights.verify(WEIGHTS[name])
    assert list(cache.iterdir()) == [path]
    changed = path.stat().st_mtime_ns
    assert weights.pull(name) == weights.locate(name) == path
    assert path.stat().st_mtime_ns == changed


def test_mismatch_deletes_nothing_and_says_what_to_do(cache: Path) -> None:
    cache.mkdir()
    path = weights.cached_path(WEIGHTS[TOKENIZER])
    path.write_text("another file")
    for check in (lambda: weights.verify(WEIGHTS[TOKENIZER]), lambda: weights.pull(TOKENIZER)):
        with pytest.raises(InputError) as caught:
            check()
        message = str(caught.value)
        assert str(path) in message
        assert WEIGHTS[TOKENIZER].sha256 in message
        assert f"move it away and run `autolabel models pull {TOKENIZER}`" in message
    assert path.read_text() == "another file"


def test_unknown_name_lists_the_known_ones(cache: Path) -> None:
    with pytest.raises(InputError, match=r"unknown weights 'sam'; listed are .*sam-vit-b"):
        weights.pull("sam")


def test_pull_from_an_address(listed: List, server: str) -> None:
    file = listed(Url(f"{server}/tower"))
    assert weights.pull(file.name).read_bytes() == CONTENT


def test_next_source_is_asked_where_one_fails(listed: List, server: str) -> None:
    listed(PythonPackage("no-such-package", "x"), Url(f"{server}/no"), Url(f"{server}/tower"))
    assert weights.pull("tower").read_bytes() == CONTENT


def test_no_network_names_file_folder_and_the_preset_that_needs_none(
    listed: List, nothing_listens: str, cache: Path
) -> None:
    file = listed(Url(f"{nothing_listens}/tower"))
    with pytest.raises(InputError) as caught:
        weights.pull("tower")
    message = str(caught.value)
    assert "tower cannot be had" in message
    assert f"(sha256 {file.sha256}) at {cache / 'tower.bin'}" in message
    assert "the preset `mini` needs no download" in message
    assert "\n" not in message
    assert not list(cache.iterdir())


@pytest.mark.parametrize("page", ["cut", "junk", "other"])
def test_partial_or_wrong_file_never_lands(
    listed: List, server: str, cache: Path, page: str
) -> None:
    file = listed(Url(f"{server}/{'tower' if page == 'other' else page}"))
    if page == "other":
        WEIGHTS["tower"] = replace(file, sha256="0" * 64)
    with pytest.raises(InputError, match="tower cannot be had"):
        weights.pull("tower")
    assert not list(cache.iterdir())


def test_missing_package_and_missing_member_are_said(listed: List, cache: Path) -> None:
    listed(PythonPackage("no-such-package", "x"), PythonPackage("numpy", "no/such/member"))
    with pytest.raises(InputError, match=r"package no-such-package is not installed; .*numpy"):
        weights.pull("tower")
    assert not list(cache.iterdir())


def test_preset_lists_its_files() -> None:
    assert set(weights.sha256_by_preset("bb")) == {"sam-vit-b", "clip-vit-b-16"}
    assert weights.sha256_by_preset("none") == {}


def test_a_changed_file_is_noticed_when_it_is_loaded(listed: List, server: str) -> None:
    file = listed(Url(f"{server}/tower"))
    path = weights.locate(file.name)
    assert weights.locate(file.name) == path
    content = bytearray(CONTENT)
    content[100] ^= 1
    for damaged in (bytes(content), CONTENT[:3000], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"tower\.bin is not tower: expected .*pull tower"):
            weights.locate(file.name)
    path.write_bytes(CONTENT)
    assert weights.locate(file.name) == path


def test_bytes_are_read_once_as_long_as_the_file_does_not_change(
    listed: List, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(Url(f"{server}/tower"))
    weights.locate(file.name)
    weights.locate(file.name)
    monkeypatch.setattr(weights, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    assert weights.locate(file.name).read_bytes() == CONTENT


@pytest.mark.parametrize("content", ["", "[]", '{"tower.bin": 3}', '{"tower.bin": {"size": 7000}}'])
def test_a_damaged_record_of_verified_files_is_made_anew(
    listed: List, server: str, cache: Path, content: str
) -> None:
    file = listed(Url(f"{server}/tower"))
    weights.locate(file.name)
    (cache / "verified.json").write_text(content)
    assert weights.locate(file.name).read_bytes() == CONTENT
