"""Which process holds something, and whether it is still running."""

import functools
import hashlib
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# A file's time and a process's have different clocks' resolutions.
_SECONDS_OF_DOUBT = 2


@functools.cache
def _host_and_boot() -> tuple[str, str]:
    """Names of this machine, or container, and of its last start."""
    boot = _BOOT.read_text() if _BOOT.exists() else str(round(psutil.boot_time()))
    return _digest(socket.gethostname()), _digest(boot)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def machine_id() -> str:
    """Hexadecimal name of this machine and its last start."""
    return "".join(_host_and_boot())


def is_running(machine: str, pid: int, time: float) -> bool:
    """Whether the process with that id which ran at a time is still running.

    A process of another machine counts as running, since nothing here can tell; one from before
    this machine's last start does not.

    Args:
        machine: as `machine_id` named it there.
        pid: id of the process.
        time: when it surely ran, seconds since the epoch.
    """
    host, boot = _host_and_boot()
    if machine[: len(host)] != host:
        return True
    if machine != host + boot:
        return False
    try:
        return bool(psutil.Process(pid).create_time() <= time + _SECONDS_OF_DOUBT)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds something, as it is written down beside it.

    Attributes:
        machine: as `machine_id` names it.
        host: the machine's name for people.
        pid: id of the process.
        since: date and time since when, UTC, in ISO 8601.
    """

    machine: str
    host: str
    pid: int
    since: str

    @classmethod
    def current(cls) -> "Holder":
        """This process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(machine=machine_id(), host=socket.gethostname(), pid=os.getpid(), since=now)

    @property
    def is_running(self) -> bool:
        """Whether the process still runs, as far as this machine can tell."""
        return is_running(self.machine, self.pid, datetime.fromisoformat(self.since).timestamp())

    def __str__(self) -> str:
        """As messages name it."""
        return f"process {self.pid} on {self.host}, since {self.since}"
