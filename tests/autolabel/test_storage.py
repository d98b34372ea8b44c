"""Images by URL: from fsspec's memory, a web server and an S3 server, all of this machine."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from autolabel.run.images import open_source
from autolabel.storage import is_url, local_copy
from integrations.progress import NullReporter
from regionspot.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("REGIONSPOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A file system in memory with a folder of photos, read or not read as such, and notes."""
    files = fsspec.filesystem("memory")
    for name in ("a.jpg", "deep/b.png", "notes.txt"):
        files.pipe(f"/photos/{name}", name.encode())
    yield files
    files.rm("/photos", recursive=True)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The endpoint of an S3 server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield f"http://{host}:{port}"
    server.stop()


def below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Messages(NullReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def test_images_are_fetched_once_and_again_where_they_changed(
    memory: fsspec.AbstractFileSystem,
) -> None:
    folder = local_copy("memory://photos", NullReporter())
    assert folder.name == "photos"
    assert below(folder) == {"a.jpg": b"a.jpg", "deep/b.png": b"deep/b.png"}
    (folder / "a.jpg").write_bytes(b"kept, since the same file is there")
    assert local_copy("memory://photos/", NullReporter()) == folder
    assert below(folder)["a.jpg"] == b"kept, since the same file is there"
    memory.pipe("/photos/a.jpg", b"changed")
    memory.pipe("/photos/c.jpg", b"new")
    memory.rm("/photos/deep/b.png")
    local_copy("memory://photos", NullReporter())
    assert below(folder) == {"a.jpg": b"changed", "c.jpg": b"new"}


def test_a_limit_fetches_the_first_images(memory: fsspec.AbstractFileSystem) -> None:
    folder = local_copy("memory://photos", NullReporter(), limit=1)
    assert set(below(folder)) == {"a.jpg"}
    said = Messages()
    local_copy("memory://photos", said)
    assert "1 images of memory://photos are in" in said.lines[0]
    assert set(below(folder)) == {"a.jpg", "deep/b.png"}


def test_a_run_takes_a_url_as_a_folder(memory: fsspec.AbstractFileSystem) -> None:
    source = open_source("memory://photos")
    assert (source.kind, source.name) == ("folder", "photos")
    assert [image.file_name for image in source.images] == ["a.jpg", "deep/b.png"]
    (image,) = open_source("memory://photos/deep/b.png").images
    assert image.file_name == "b.png"
    assert not is_url("fiftyone:photos")
    assert not is_url("C:\\photos")


def test_s3(s3: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="photos/one.jpg", Body=b"1")
    client.put_object(Bucket="bucket", Key="photos/two/Two words.jpg", Body=b"2")
    folder = local_copy("s3://bucket/photos", NullReporter())
    assert below(folder) == {"one.jpg": b"1", "two/Two words.jpg": b"2"}
    with pytest.raises(InputError, match="s3://nowhere/photos is not there"):
        local_copy("s3://nowhere/photos", NullReporter())


def test_a_web_server(tmp_path: Path) -> None:
    (tmp_path / "site/photos").mkdir(parents=True)
    (tmp_path / "site/photos/one.jpg").write_bytes(b"1")
    (tmp_path / "site/photos/notes.txt").write_bytes(b"no image")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/photos"
        assert below(local_copy(f"{address}/", NullReporter())) == {"one.jpg": b"1"}
        assert local_copy(f"{address}/one.jpg", NullReporter()).read_bytes() == b"1"
        with pytest.raises(InputError, match="is not there"):
            local_copy(f"{address}/two.jpg", NullReporter())
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nothing", "is not there|holds no image"),
        ("gs://bucket/photos", "pip install gcsfs"),
        ("nothing-known://a", "cannot be read: Protocol not known"),
        ("http://127.0.0.1:1/photos", "cannot be read|is not there"),
    ],
)
def test_what_cannot_be_read_is_one_line(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        local_copy(url, NullReporter())
    assert "\n" not in str(refused.value)


def test_a_name_that_leaves_the_folder_is_refused(memory: fsspec.AbstractFileSystem) -> None:
    memory.store["/photos/../evil.jpg"] = memory.store["/photos/a.jpg"]
    try:
        with pytest.raises(InputError, match="leaves the images' folder"):
            local_copy("memory://photos", NullReporter())
    finally:
        del memory.store["/photos/../evil.jpg"]
