"""The App's server in a process of its own, attacked as a browser, a script or a user would."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from integrations.fiftyone import server
from integrations.fiftyone.session import connect
from regionspot.errors import InputError

SERVE = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from integrations.fiftyone.server import serve_app
name, run, browser, address = sys.argv[1:]
announce = lambda url: print(url, flush=True)
serve_app(name, "all", Path(run), address, 0, browser == "browser", announce)
"""
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
DELETE = "@voxel51/operators/delete_sample_field"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class App:
    """A server that runs, with its dataset.

    Attributes:
        process: of the server.
        port: on 127.0.0.1.
        token: of the opened address.
        dataset: name of it; two images, one of them a link, and a mask on disk.
        folder: with `images`, `store`, `masks`, `run` and `secret`.
    """

    process: "subprocess.Popen[str]"
    port: int
    token: str
    dataset: str
    folder: Path

    def ask(
        self, path: str, body: str | None = None, cookie: bool = True, **headers: str
    ) -> Answer:
        """The answer to a GET, or a POST of a body; `origin` is the header Origin."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie:
            sent["Cookie"] = f"autolabel-{self.port}={self.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET" if body is None else "POST", path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def media(self, path: Path | str, **headers: str) -> Answer:
        return self.ask(f"/media?filepath={quote(str(path))}", **headers)

    def deletion(self, field: str) -> str:
        """The body of the request that deletes a field of all samples."""
        params = {"field_names": [field]}
        return json.dumps(
            {"operator_uri": DELETE, "dataset_name": self.dataset, "params": params}
            | {"request_delegation": False}
        )

    @property
    def fields(self) -> set[str]:
        import fiftyone as fo

        dataset = fo.load_dataset(self.dataset)
        dataset.reload()
        return set(dataset.get_field_schema())


def write_dataset(folder: Path) -> str:
    """A dataset with two images, one of them a link, and a mask on disk; its name."""
    connect()
    import fiftyone as fo

    for name in ("images", "store", "masks", "run", "secret"):
        (folder / name).mkdir()
        Image.new("RGB", (8, 8)).save(folder / name / "a.png")
    linked = folder / "images/linked.png"
    linked.symlink_to(folder / "store/a.png")
    (folder / "images/stolen.png").symlink_to("/etc/passwd")
    (folder / "images/folder").symlink_to(folder / "secret")
    (folder / "images/below").mkdir()
    (folder / "images/below/a.png").write_bytes(b"")
    dataset = fo.Dataset(f"served {uuid.uuid4().hex}", persistent=True)
    box = fo.Detection(
        label="cat", bounding_box=[0, 0, 1, 1], mask_path=str(folder / "masks/a.png")
    )
    labels = {name: fo.Detections(detections=[box.copy()]) for name in ("labels", "spare")}
    dataset.add_samples([fo.Sample(str(folder / "images/a.png"), **labels), fo.Sample(str(linked))])
    dataset.save_view("all", dataset.view())
    return str(dataset.name)


def start(dataset: str, run: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, dataset, str(run), *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def read_address(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Port and token of the address that a server prints."""
    assert process.stdout is not None
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", process.stdout.readline())
    assert found
    return int(found[1]), found[2]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    import fiftyone as fo

    Path(fo.config.plugins_dir).mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("served")
    dataset = write_dataset(folder)
    process = start(dataset, folder / "run", "no", "127.0.0.1")
    try:
        yield App(process, *read_address(process), dataset, folder)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert time.monotonic() - began < 30
    finally:
        process.kill()
        process.communicate()
        fo.delete_dataset(dataset)


@pytest.mark.parametrize(
    "path", ["/", "/fiftyone", "/media?filepath=/etc/passwd", "/graphql?query={x}", "/no/such"]
)
@pytest.mark.parametrize("cookie", [None, "", "wrong", "ä"])
def test_nothing_is_read_without_the_token(app: App, path: str, cookie: str | None) -> None:
    headers = {} if cookie is None else {"Cookie": f"autolabel-{app.port}={cookie}"}
    answer = app.ask(path, cookie=False, **headers)
    assert answer.status == 403
    assert b"`autolabel review` printed" in answer.body


@pytest.mark.parametrize("path", ["/operators/execute", "/graphql", "/event", "/events", "/tag"])
def test_nothing_is_changed_without_the_token(app: App, path: str) -> None:
    body = app.deletion("labels")
    assert app.ask(path, body, cookie=False, Content_Type="text/plain").status == 403
    assert app.ask(f"{path}?token={app.token}", body, cookie=False).status == 403
    assert app.ask("/", cookie=False, **HANDSHAKE).status == 403
    assert "labels" in app.fields


@pytest.mark.parametrize("path", ["/", "//elsewhere.example/", "/datasets/x"])
def test_the_opened_address_sets_a_cookie_and_leads_to_the_app(app: App, path: str) -> None:
    answer = app.ask(f"{path}?token={app.token}", cookie=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert cookie == f"autolabel-{app.port}={app.token}"
    assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict"}
    assert b"FiftyOne" in app.ask("/").body


def test_a_link_on_another_page_leads_to_the_app_by_a_page(app: App) -> None:
    """A browser would not send the cookie with a redirect that another site began."""
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    answer = app.ask(f"/?token={app.token}", cookie=False, **link, sec_fetch_dest="document")
    assert answer.status == 200
    assert b'http-equiv="refresh" content="0; url=/"' in answer.body
    framed = app.ask(f"/?token={app.token}", cookie=False, **link, sec_fetch_dest="iframe")
    assert (framed.status, framed.headers["Set-Cookie"]) == (403, None)


@pytest.mark.parametrize("token", ["", "wrong", "%C3%A4", "%00"])
def test_a_wrong_token_is_refused(app: App, token: str) -> None:
    for cookie in (False, True):
        answer = app.ask(f"/?token={token}", cookie=cookie)
        assert (answer.status, answer.headers["Set-Cookie"]) == (403, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "SAME-ORIGIN"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
def test_a_page_of_another_origin_changes_nothing(app: App, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=app.port) for name, value in headers.items()}
    for path in ("/operators/execute", "/graphql", "/event", "/events"):
        answer = app.ask(path, app.deletion("labels"), **sent, Content_Type="text/plain")
        assert (answer.status, answer.body) == (403, b"expected a request of the App's own pages")
    assert app.ask("/", **sent, **HANDSHAKE).status == 403
    assert "labels" in app.fields


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_origin_shows_no_image(app: App, site: str) -> None:
    image = app.folder / "images/a.png"
    assert app.media(image, sec_fetch_site=site, sec_fetch_mode="no-cors").status == 403
    assert app.media(image, sec_fetch_site="same-origin", sec_fetch_mode="no-cors").status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "", "127.0.0.1.evil.io"])
def test_another_name_of_this_machine_is_refused(app: App, host: str) -> None:
    """A page whose name resolves to 127.0.0.1 is of the server's own origin, by DNS rebinding."""
    host = host.format(port=app.port)
    for body in (None, app.deletion("labels")):
        answer = app.ask("/operators/execute", body, Host=host, Origin=f"http://{host}")
        assert (answer.status, answer.body) == (400, b"Invalid host header")
    assert app.ask(f"/?token={app.token}", cookie=False, Host=host).status == 400
    assert "labels" in app.fields


def test_what_is_refused_elsewhere_works_for_the_app_itself(app: App) -> None:
    """The attack is real: with the token, from the App's own page, it deletes the field."""
    assert "spare" in app.fields
    own = {"Origin": f"http://127.0.0.1:{app.port}", "Sec-Fetch-Site": "same-origin"}
    answer = app.ask("/operators/execute", app.deletion("spare"), **own, Content_Type="text/plain")
    assert answer.status == 200, answer.body
    assert "spare" not in app.fields


def test_a_tunnel_from_another_port_works(app: App) -> None:
    own = {"Host": "localhost:6006", "Origin": "http://localhost:6006"}
    answer = app.ask("/operators", "{}", **own, Sec_Fetch_Site="same-origin")
    assert answer.status == 200
    assert DELETE in answer.body.decode()


@pytest.mark.parametrize(
    "path",
    [
        "images/a.png",
        "images/linked.png",
        "store/a.png",
        "masks/a.png",
        "run/a.png",
        "images/../images/a.png",
        "images/folder/../masks/a.png",
    ],
)
def test_images_masks_and_the_run_are_served(app: App, path: str) -> None:
    answer = app.media(app.folder / path)
    assert answer.status == 200
    assert answer.body == (app.folder / "store/a.png").read_bytes()
    assert "sandbox" in answer.headers.get_all("Content-Security-Policy")


@pytest.mark.parametrize(
    "path",
    [
        "secret/a.png",
        "images",
        "images/below/a.png",
        "images/folder/a.png",
        "images/stolen.png",
        "images/../secret/a.png",
        "run/../secret/a.png",
        "masks/../../../../etc/passwd",
    ],
)
def test_other_files_are_not_served(app: App, path: str) -> None:
    answer = app.media(f"{app.folder}/{path}")
    assert (answer.status, answer.body) == (403, b"expected a file of the dataset")


@pytest.mark.parametrize(
    "path",
    [
        "/media",
        "/media?filepath=",
        "/media?filepath=%00",
        "/media?filepath=/etc/passwd",
        "/media?filepath=file:///etc/passwd",
        "/media?filepath=/proc/self/environ",
        "/media?filepath={image}&filepath=/etc/passwd",
        "/media?filepath={image}%00",
        "/media%0A?filepath=/etc/passwd",
        "/media/?filepath=/etc/passwd",
        "//media?filepath=/etc/passwd",
        "/%6dedia?filepath=/etc/passwd",
        "/../../../../../../../etc/passwd",
        "/plugins/..%2f..%2f..%2f..%2fetc/passwd",
    ],
)
def test_no_spelling_reaches_another_file(app: App, path: str) -> None:
    answer = app.ask(path.format(image=app.folder / "images/a.png"))
    assert answer.status in (307, 400, 403, 404)
    assert b"root:" not in answer.body


@pytest.mark.parametrize("name", ["no such.png", "a" * 300])
def test_a_file_that_is_gone_is_not_found(app: App, name: str) -> None:
    assert app.media(app.folder / "images" / name).status == 404


def test_the_token_is_on_no_command_line(app: App, tmp_path: Path) -> None:
    """Every user of the machine can read the command line of a browser."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$*" > {seen}\ncp -p "${{1#file://}}" {seen}.html\n')
    browser.chmod(0o755)
    process = start(app.dataset, tmp_path, "browser", "127.0.0.1", BROWSER=f"{browser} %s")
    try:
        port, token = read_address(process)
        page = Path(f"{seen}.html")
        deadline = time.monotonic() + 60
        while not page.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert token not in seen.read_text()
        assert f'url=http://127.0.0.1:{port}/?token={token}"' in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.glob(".review-*"))


def test_what_cannot_be_listened_on_is_named(app: App, tmp_path: Path) -> None:
    def serve(address: str, port: int) -> None:
        server.serve_app(app.dataset, "all", tmp_path, address, port, False, print)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"cannot listen on 127.0.0.1, port {port}: .* in use"
        ):
            serve("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1.*--address"):
        serve("192.0.2.1", 0)
    with pytest.raises(InputError, match=r"cannot listen on no\.such\.invalid"):
        serve("no.such.invalid", 0)
    with pytest.raises(InputError, match="--address must be"):
        serve("", 0)


def test_a_server_on_all_addresses_knows_its_names() -> None:
    assert server.host_names("127.0.0.1") == ["127.0.0.1", "localhost"]
    assert server.host_names("GPU-Box") == ["127.0.0.1", "gpu-box", "localhost"]
    assert socket.gethostname().lower() in server.host_names(server.EVERY_ADDRESS)
    assert "evil.example" not in server.host_names(server.EVERY_ADDRESS)
