"""FiftyOne's App, served to one person.

FiftyOne's own server answers whoever reaches its port, with any `Host`, from a page of any origin,
and reads any file of the user. Here the same ASGI application runs behind Starlette's
`TrustedHostMiddleware`, which ends DNS rebinding, and behind `Guard`, which wants the session's
token and refuses requests of other origins; and `/media` serves files of known folders alone.
"""

import asyncio
import gc
import html
import logging
import os
import secrets
import signal
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from integrations.fiftyone.session import ADDRESS, load_dataset
from regionspot.errors import InputError

EVERY_ADDRESS = "0.0.0.0"
GRACE_S = 1.0
_OWN_PAGES = ("same-origin", "none")  # values of Sec-Fetch-Site; none: typed, or a bookmark
_HEADERS = {
    "content-security-policy": "frame-ancestors 'self'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_FORWARD = '<meta http-equiv="refresh" content="0; url={}">'


class Guard:
    """ASGI middleware: lets through what holds the session's token and is of the App's own origin.

    The opened address, `/?token=...`, turns the token into a cookie. Without it a request is
    answered by 403, and so is a websocket's handshake.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        """Guard an application.

        Args:
            app: the application.
            token: the session's secret.
            cookie: name of the cookie that holds it. Ports share cookies, so it names the port.
        """
        self._app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on to the application."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                for name, value in _HEADERS.items():
                    MutableHeaders(scope=message).append(name, value)
            await send(message)

        answer = None if scope["type"] == "lifespan" else self._answer(HTTPConnection(scope))
        await (answer or self._app)(scope, receive, send_with_headers)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """The answer to a request that the application must not see."""
        if not is_same_origin(request):
            return PlainTextResponse("expected a request of the App's own pages", 403)
        if "token" in request.query_params and request.scope.get("method") == "GET":
            if self._is_token(request.query_params["token"]):
                return self._welcome(request)
        elif self._is_token(request.cookies.get(self._cookie, "")):
            return None
        return PlainTextResponse("expected the address that `autolabel review` printed", 403)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())

    def _welcome(self, request: HTTPConnection) -> Response:
        # After a link on another site a redirect would not bring the strict cookie along.
        own = request.headers.get("sec-fetch-site", "none") in _OWN_PAGES
        response = RedirectResponse("/", 303) if own else HTMLResponse(_FORWARD.format("/"))
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return response


def is_same_origin(request: HTTPConnection) -> bool:
    """Whether a request, or a websocket's handshake, comes from a page of the server itself.

    What carries neither `Origin` nor `Sec-Fetch-Site` is of no page. A link on another page may
    lead to the App: such a request reads a page and changes nothing.
    """
    headers = request.headers
    host = headers.get("host", "")
    if any(each not in (f"http://{host}", f"https://{host}") for each in headers.getlist("origin")):
        return False
    link = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
    if link and request.scope.get("method") in ("GET", "HEAD"):
        return True
    return all(each in _OWN_PAGES for each in headers.getlist("sec-fetch-site"))


@dataclass(frozen=True)
class MediaFolders:
    """The folders whose files the App shows; links and `..` are resolved.

    Attributes:
        images: of the dataset's images: what lies right in them is shown.
        trees: of masks and of the run: what lies anywhere below them is shown.
    """

    images: frozenset[str]
    trees: tuple[str, ...]

    def find(self, path: str) -> Path | None:
        """The file that a path leads to, if the App may show it."""
        try:
            resolved = Path(os.path.realpath(path))
        except ValueError:  # a NUL byte
            return None
        shown = str(resolved.parent) in self.images or any(map(resolved.is_relative_to, self.trees))
        return resolved if shown else None

    def answer(self, request: Request) -> Response:
        """Serve `/media?filepath=...`."""
        resolved = self.find(request.query_params.get("filepath", ""))
        if resolved is None:
            return PlainTextResponse("expected a file of the dataset", 403)
        try:
            found = resolved.is_file()
        except OSError:  # a name that is too long
            found = False
        if not found:
            return PlainTextResponse("no such file", 404)
        # Opened as a page, a file must run no script with the App's cookie.
        return FileResponse(resolved, headers={"content-security-policy": "sandbox"})


def media_folders(dataset: Any, run: Path) -> MediaFolders:
    """The folders of a dataset's images, of its masks and maps on disk, and a run's folder.

    A link among the images counts as where it leads to now.
    """
    schema = dataset.get_field_schema(flat=True)
    images = {_folder(path) for path in _paths(dataset, dataset.app_config.media_fields)}
    masks = [field for field in schema if field.endswith((".mask_path", ".map_path"))]
    trees = {str(path.parent) for path in _paths(dataset, masks)} | {str(run)}
    return MediaFolders(
        frozenset(map(os.path.realpath, images)), tuple(map(os.path.realpath, sorted(trees)))
    )


def _folder(image: Path) -> str:
    try:
        link = image.is_symlink()
    except OSError:  # in a folder that cannot be read
        link = False
    return str((Path(os.path.realpath(image)) if link else image).parent)


def _paths(dataset: Any, fields: Iterable[str]) -> Iterator[Path]:
    for field in fields:
        yield from (Path(path) for path in dataset.values(field, unwind=True) if path)


def make_app(folders: MediaFolders, token: str, address: str, port: int) -> ASGIApp:
    """FiftyOne's application, guarded.

    Args:
        folders: whose files are served.
        token: the session's secret.
        address: that the server listens on.
        port: of the server.
    """
    from fiftyone.server.app import app
    from starlette.routing import Route

    # In place of FiftyOne's route: a check in front of it would have to know all spellings of it.
    app.router.routes[:] = [
        Route("/media", folders.answer) if getattr(route, "path", "") == "/media" else route
        for route in app.router.routes
    ]
    guard = Guard(app, token, f"autolabel-{port}")
    return TrustedHostMiddleware(guard, host_names(address), www_redirect=False)


def host_names(address: str) -> list[str]:
    """The values of `Host`, without a port, by which a server at an address is asked.

    `localhost` is always among them, for a tunnel or a container.
    """
    names = {ADDRESS, "localhost", address}
    if address == EVERY_ADDRESS:
        links = psutil.net_if_addrs().values()
        names |= {each.address for link in links for each in link if each.family == socket.AF_INET}
        names |= {socket.gethostname(), socket.getfqdn()}
    return sorted(name.lower() for name in names)


def serve_app(
    dataset: str,
    view: str,
    run: Path,
    address: str,
    port: int,
    browser: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve the App at a saved view until Ctrl-C.

    Args:
        dataset: name of the dataset.
        view: name of a saved view.
        run: folder of the run.
        address: to listen on, IPv4 or a name of this machine.
        port: to listen on.
        browser: whether a browser window is opened.
        announce: is called with the address to open, token included, once the server listens.

    Raises:
        InputError: the dataset or the view is gone, or the port is taken.
    """
    loaded = load_dataset(dataset)
    if not loaded.has_saved_view(view):
        raise InputError(f"FiftyOne's dataset {dataset!r} has no view {view!r} any more")
    with _listen(address, port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = make_app(media_folders(loaded, run), token, address, port)
        _prepare(loaded.load_saved_view(view), port)
        host = socket.gethostname() if address == EVERY_ADDRESS else address
        url = f"http://{host}:{port}/?token={token}"
        with suppress(KeyboardInterrupt), ExitStack() as stack:
            announce(url)
            if browser:
                page = stack.enter_context(_private_page(url, run))
                webbrowser.open(page.as_uri(), new=2)
            _serve(app, listener)


def _listen(address: str, port: int) -> socket.socket:
    if not address:
        raise InputError("--address must be an address or name of this machine, got ''")
    try:
        return socket.create_server((address, port))
    except OSError as error:
        raise InputError(
            f"cannot listen on {address}, port {port}: {error.strerror}; "
            "choose another --port or --address"
        ) from error


def _prepare(view: Any, port: int) -> None:
    """Give FiftyOne's server its state, which a session in another process would post to it."""
    import fiftyone as fo
    from fiftyone.core.odm.workspace import default_workspace_factory
    from fiftyone.core.state import StateDescription, build_color_scheme
    from fiftyone.server.events.state import set_port, set_state

    os.environ["FIFTYONE_SERVER"] = "1"
    fo.config.singleton_cache = False  # as there: other processes change datasets
    config = fo.app_config.copy()
    config.color_by = "value"  # a colour for each class, not one for all labels
    config.grid_zoom = 4
    state = StateDescription(
        dataset=view._root_dataset,
        view=view,
        view_name=view.name,
        spaces=default_workspace_factory(),
        color_scheme=build_color_scheme(None, view._root_dataset, config),
        config=config,
    )
    set_port(port)
    set_state(state)


@contextmanager
def _private_page(url: str, run: Path) -> Iterator[Path]:
    """A page that leads to an address, for this user alone.

    A browser's command line, which every user of the machine can read, names the page and not the
    token. It lies in the run folder because browsers that are snaps cannot read the system's
    temporary folder.
    """
    folder = run if os.access(run, os.W_OK) else None
    with tempfile.NamedTemporaryFile(
        "w", prefix=".review-", suffix=".html", dir=folder, encoding="utf-8"
    ) as page:
        page.write(_FORWARD.format(html.escape(url)))
        page.flush()
        yield Path(page.name).resolve()


def _serve(app: ASGIApp, listener: socket.socket) -> None:
    """Run the server until SIGINT or SIGTERM."""
    logging.disable(logging.ERROR)  # the App shows its errors itself
    asyncio.run(_serve_until_signal(app, f"fd://{os.dup(listener.fileno())}"))
    gc.freeze()  # or Python would search all that FiftyOne loaded for garbage before it exits


async def _serve_until_signal(app: ASGIApp, bind: str) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config, stop = Config(), asyncio.Event()
    config.bind, config.graceful_timeout = [bind], GRACE_S
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({server, stopped}, return_when=asyncio.FIRST_COMPLETED)
    # An open page waits for events without end, and from Python 3.12 on hypercorn for the page.
    await asyncio.wait({server}, timeout=3 * GRACE_S)
    if server.done():
        server.result()
