"""`autolabel review`: FiftyOne's App at the labels of low confidence."""

import re
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest

from tests.autolabel.helpers import FinishedRun, app_address_line, start_review

TIMEOUT_S = 240


def test_review_serves_the_app_on_this_machine_only(finished: FinishedRun) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_review([str(finished.folder), "--no-browser", "--port", str(port)])
    try:
        message = app_address_line(process)
        found = re.search(
            rf"FiftyOne at (http://127\.0\.0\.1:{port}/\?token=[\w-]{{43}}), ", message
        )
        assert found
        assert "'needs review'" in message
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(found[1], timeout=60) as page:
            assert page.url == f"http://127.0.0.1:{port}/"
            assert b"FiftyOne" in page.read()
        assert listening_addresses(port) == {"127.0.0.1"}
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.communicate()


def listening_addresses(port: int) -> set[str]:
    """Addresses that any process of this machine listens on at a port."""
    import psutil

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = {
            each.laddr.ip
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port
        }
        if found:
            return found
    return set()
