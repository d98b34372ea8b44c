"""While a person reviews, pages of other origins in the same browser reach nothing."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import fiftyone as fo
import pytest
from playwright.sync_api import Page, expect

from autolabel import label
from autolabel.demo import write_photos
from autolabel.run.manifest import RunFolder

# Each promise ends with "refused" or with what the page could read; an opaque answer says nothing.
ATTACK = """async ({app, field, dataset, file}) => {
  const body = JSON.stringify({
    operator_uri: "@voxel51/operators/delete_sample_field", dataset_name: dataset,
    params: {field_names: [field]}, request_delegation: false,
  });
  const send = (path, options) => fetch(app + path, {credentials: "include", ...options})
    .then(answer => answer.type === "opaque" ? "opaque" : answer.text(), () => "refused");
  const element = (name, attributes) => new Promise(done => {
    const made = Object.assign(document.createElement(name), attributes);
    made.onload = () => done("loaded");
    made.onerror = () => done("refused");
    document.body.append(made);
  });
  const submitted = path => new Promise(done => {
    const frame = Object.assign(document.createElement("iframe"), {name: "f" + path});
    frame.onload = () => done("sent");
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), {
      action: app + path, method: "post", enctype: "text/plain", target: frame.name});
    form.append(Object.assign(document.createElement("input"), {name: body.slice(0, -1) + ',"x":"',
      value: '"}'}));
    document.body.append(form);
    form.submit();
  });
  const socket = () => new Promise(done => {
    const made = new WebSocket(app.replace("http", "ws") + "/events");
    made.onopen = () => done("open");
    made.onerror = () => done("refused");
  });
  const json = {"Content-Type": "application/json"};
  return {
    simple: await send("/operators/execute", {method: "POST", mode: "no-cors", body,
      headers: {"Content-Type": "text/plain"}}),
    beacon: String(navigator.sendBeacon(app + "/operators/execute", body)),
    json: await send("/operators/execute", {method: "POST", body, headers: json}),
    events: await send("/events", {method: "POST", body: "{}"}),
    read: await send("/media?filepath=" + file, {}),
    form: await submitted("/operators/execute"),
    image: await element("img", {src: app + "/media?filepath=" + file}),
    script: await element("script", {src: app + "/fiftyone"}),
    socket: await socket(),
  };
}"""
REFUSED = dict.fromkeys(("json", "events", "read", "image", "script", "socket"), "refused")


class EmptyPage(http.server.BaseHTTPRequestHandler):
    """Any page, empty."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>elsewhere</title><body></body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """Port of another server of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("attacked")
    photos = write_photos(folder / "photos", ["cat", "motorcycle"])
    return label(photos, ["cat", "motorcycle", "person"], out=folder / "attacked")


def field_of(run: RunFolder) -> tuple[fo.Dataset, str]:
    assert run.manifest.fiftyone
    dataset = fo.load_dataset(run.manifest.fiftyone.dataset)
    dataset.reload()
    return dataset, run.manifest.fiftyone.label_field


def test_pages_of_other_origins_reach_nothing(
    run: RunFolder, elsewhere: int, open_review: Callable[[Path], Page]
) -> None:
    app = open_review(run.folder)
    expect(app.locator("[data-cy=looker]").first).to_be_visible()
    dataset, field = field_of(run)
    sent = {
        "app": app.url[: app.url.index("/", len("http://"))],
        "field": field,
        "dataset": dataset.name,
        "file": quote(dataset.first().filepath),
    }
    for host in ("127.0.0.1", "localhost"):  # the first is sent the cookie: it is of the same site
        page = app.context.new_page()
        page.goto(f"http://{host}:{elsewhere}/")
        found = page.evaluate(ATTACK, sent)
        assert {name: found[name] for name in REFUSED} == REFUSED
        assert field_of(run)[0].has_sample_field(field)
    # From the App's own page the same request deletes: what failed above was not the request.
    dataset.clone_sample_field(field, "spare")
    own = app.evaluate(ATTACK, sent | {"field": "spare"})
    assert own["socket"] == "refused"  # there is none
    assert not field_of(run)[0].has_sample_field("spare")
    assert field_of(run)[0].has_sample_field(field)


def test_an_edit_persists(run: RunFolder, open_review: Callable[[Path], Page]) -> None:
    page = open_review(run.folder)
    expect(page.locator("[data-cy=looker]").first).to_be_visible()
    page.locator("[data-cy=action-tag-sample-labels]").click()
    page.locator("[data-cy=tagger-switch-sample]").click()
    page.locator("[data-cy=sample-tag-input]").fill("checked")
    page.keyboard.press("Enter")
    with page.expect_response(lambda answer: answer.url.endswith("/tag")) as answered:
        page.get_by_text("Apply", exact=True).click()
    assert answered.value.ok
    assert field_of(run)[0].match_tags("checked").count() > 0


def test_a_page_without_the_token_shows_nothing(
    run: RunFolder, open_review: Callable[[Path], Page]
) -> None:
    app = open_review(run.folder)
    browser = app.context.browser
    assert browser
    stranger = browser.new_context().new_page()
    answer = stranger.goto(app.url)
    assert answer
    assert answer.status == 403
    expect(stranger.locator("body")).to_contain_text("`autolabel review` printed")


def test_a_file_opens_the_app(
    run: RunFolder, tmp_path: Path, open_review: Callable[[Path], Page]
) -> None:
    """As the browser is opened: a private page on disk leads on, with the cookie."""
    app = open_review(run.folder)
    (cookie,) = app.context.cookies()
    browser = app.context.browser
    assert browser
    other = browser.new_context().new_page()
    page = tmp_path / "open.html"
    address = f"{app.url[: app.url.index('/', len('http://'))]}/?token={cookie['value']}"
    page.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    other.goto(page.as_uri())
    expect(other.locator("[data-cy=looker]").first).to_be_visible()
