"""A private MongoDB that only its owner can open.

FiftyOne starts its MongoDB on a TCP port of 127.0.0.1 without a password: whoever has an account on
the machine can read and change it. A private MongoDB listens on a Unix socket alone, in a folder of
mode 0700 with an unpredictable name, which the file `socket` beside the data names.

Every process that uses the database has a shared lock of `users.lock` as long as it lives. The
first one starts MongoDB through this file as a program, which waits for the exclusive lock, thus
for the end of the last user, stops MongoDB and exits. It imports the standard library alone, to
stay small.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

START_S = 60.0
_POLL_S = 0.05
_SOCKET = "mongodb-27017.sock"  # clients know a socket by this suffix
_locks: dict[Path, int] = {}


def start_database(folder: Path, mongod: str) -> str:
    """Start the MongoDB of a folder, or join the one that runs.

    It is stopped once the last process that called this has ended, however it ended.

    Args:
        folder: of its data, on a local file system. It is made, and closed to other users.
        mongod: path of the program.

    Returns:
        The URI to connect to.

    Raises:
        OSError: the folder cannot be written to, or is another user's.
        RuntimeError: MongoDB does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if folder not in _locks:  # waits while a MongoDB that lost its last user is being stopped
        _locks[folder] = _lock(folder / "users.lock", fcntl.LOCK_SH)
    starting = _lock(folder / "start.lock", fcntl.LOCK_EX)
    try:
        address = _running(folder) or _start(folder, mongod)
    finally:
        os.close(starting)
    return f"mongodb://{quote(address, safe='')}"


def _lock(path: Path, kind: int) -> int:
    """An open file with a lock, which ends with the file or the process."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, kind)
    return file


def _running(folder: Path) -> str:
    """Path of the socket that a MongoDB answers on; empty if none does."""
    try:
        address = (folder / "socket").read_text(encoding="utf-8")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(START_S)
            probe.connect(address)
    except OSError:
        return ""
    return address


def _start(folder: Path, mongod: str) -> str:
    keeper = subprocess.Popen(
        [sys.executable, "-I", __file__, str(folder), mongod],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the command, which may still have to write
    )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and keeper.poll() is None:
        if address := _running(folder):
            return address
        time.sleep(_POLL_S)
    keeper.terminate()
    raise RuntimeError(f"mongod did not start; its log is {_log(folder)}")


def _log(folder: Path) -> Path:
    return folder / "log/mongo.log"


def _keep(folder: Path, mongod: str) -> None:
    """Run MongoDB until the last of its users is gone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _log(folder).parent.mkdir(exist_ok=True)
    place = Path(
        tempfile.mkdtemp(prefix="autolabel-mongo-")
    )  # short: a socket's path has 107 bytes
    address, pointer = str(place / _SOCKET), folder / "socket"
    files = ["--dbpath", str(folder), "--logpath", str(_log(folder))]
    only = ["--bind_ip", address, "--nounixsocket", "--filePermissions", "0700"]
    server = subprocess.Popen([mongod, *files, *only], stdout=subprocess.DEVNULL)

    def stop_after_last_user() -> None:
        _lock(folder / "users.lock", fcntl.LOCK_EX)  # kept until this process ends
        server.terminate()

    try:
        with open(pointer, "w", encoding="utf-8", opener=_private_file) as file:
            file.write(address)
        threading.Thread(target=stop_after_last_user, daemon=True).start()
        server.wait()
    finally:
        server.terminate()
        server.wait()
        with contextlib.suppress(OSError):
            pointer.unlink()
        shutil.rmtree(place, ignore_errors=True)


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), sys.argv[2])
