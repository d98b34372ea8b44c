"""FiftyOne's App in a real browser: Chromium without a window, and `autolabel review` as a process.

A test takes `open_review`, which gives a page of the App for a run folder. The page of a test that
fails is kept as a picture in SCREENSHOTS.
"""

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.autolabel.helpers import app_address_line, start_review

SCREENSHOTS = Path("browser-screenshots")
NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 60_000
expect.set_options(timeout=TIMEOUT_MS)
_CHROMIUM, _FAILED = pytest.StashKey[str](), pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Stop in one line where there is no browser: these tests are never skipped."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
    if not found or not os.access(found, os.X_OK):
        raise pytest.UsageError(
            f"expected a Chromium for tests/browser, got {found or 'none'}; "
            "install one (Debian: apt-get install chromium), or give CHROMIUM=/path/to/it"
        )
    config.stash[_CHROMIUM] = found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember for the fixtures' end whether the test failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@dataclass(frozen=True)
class Review:
    """`autolabel review` of a run, while it serves.

    Attributes:
        address: that the command printed, whatever stands in it.
        port: on 127.0.0.1.
    """

    address: str
    port: int


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Review]:
    """`autolabel review` of a run folder as a process of its own, ended by Ctrl-C."""
    port = free_port()
    process = start_review([str(run), "--no-browser", "--port", str(port), *options])
    try:
        found = re.search(r"http://[^\s,]+", app_address_line(process))
        assert found, "autolabel review printed no address"
        yield Review(found[0], port)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_MS / 1000)
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The one Chromium of all tests."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=request.config.stash[_CHROMIUM])
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A profile of the test's own: no cookie and no storage of another test."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    if request.node.stash.get(_FAILED, False):
        name = re.sub(r"[^\w-]+", "-", request.node.name)
        for number, page in enumerate(context.pages, start=1):
            page.screenshot(path=SCREENSHOTS / f"{name}-{number}.png")
    context.close()


@pytest.fixture
def open_review(context: BrowserContext) -> Iterator[Callable[[Path], Page]]:
    """Opens the App of a run folder at the address that `autolabel review` prints."""
    with ExitStack() as stack:

        def open_page(run: Path) -> Page:
            page = context.new_page()
            page.goto(stack.enter_context(serving(run)).address)
            page.get_by_role("button", name="Dismiss").click()  # an advertisement over the grid
            return page

        yield open_page
