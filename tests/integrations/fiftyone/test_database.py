"""A real MongoDB on a socket, its users in processes of their own."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pymongo
import pytest
from fiftyone.core.service import DatabaseService

from integrations.fiftyone.database import start_database

USE = """
from pathlib import Path
import sys
from integrations.fiftyone.database import start_database
print(start_database(Path(sys.argv[1]), sys.argv[2]), flush=True)
input()
"""
MONGOD = DatabaseService.find_mongod()


def start_user(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USE, str(folder), MONGOD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(user: "subprocess.Popen[str]") -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


def servers(folder: Path) -> list[psutil.Process]:
    """The processes of MongoDB over a folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in (process.info["cmdline"] or []) and "--dbpath" in process.info["cmdline"]
    ]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_users_that_start_together_share_one_that_ends_with_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "ä folder with a long name" / ("long" * 30) / "mongo"
    users = [start_user(folder) for _ in range(3)]
    try:
        addresses = {read_line(user) for user in users}
        (address,) = addresses
        (server,) = servers(folder)
        assert [each for each in server.net_connections("inet") if each.status == "LISTEN"] == []
        path = Path((folder / "socket").read_text())
        assert (mode(path.parent), mode(path)) == (0o700, 0o700)
        assert mode(folder) == 0o700
        assert {mode(folder / name) for name in ("socket", "users.lock", "start.lock")} == {0o600}
        with pymongo.MongoClient(address, serverSelectionTimeoutMS=30_000) as client:
            client.test.things.insert_one({"kept": 1})
        users[0].communicate("\n")
        users[1].kill()
        users[1].communicate()
        time.sleep(0.5)
        assert server.is_running()
        users[2].kill()
        users[2].communicate()
        server.wait(30)
        deadline = time.monotonic() + 10
        while path.parent.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not path.parent.exists()
    finally:
        for user in users:
            user.kill()
            user.communicate()
    with start_user(folder) as again:  # also while the one before may still be ending
        with pymongo.MongoClient(read_line(again), serverSelectionTimeoutMS=30_000) as client:
            assert client.test.things.count_documents({}) == 1
        again.communicate("\n")


def test_one_that_was_killed_is_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "mongo"
    with start_user(folder) as user:
        first = read_line(user)
        (server,) = servers(folder)
        os.kill(server.pid, signal.SIGKILL)
        server.wait(30)
        second = start_database(folder, MONGOD)
        with pymongo.MongoClient(second, serverSelectionTimeoutMS=30_000) as client:
            client.server_info()
        assert first != second
        user.communicate("\n")


def test_a_program_that_does_not_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"mongod did not start; its log is .*mongo\.log"):
        start_database(tmp_path, "/bin/false")
    with pytest.raises(RuntimeError, match="mongod did not start"):
        start_database(tmp_path, str(tmp_path / "no such program"))
