"""Images that extraction could not use: a file beside each shard that lacks some of its own."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from regionspot.files import atomic_write

SUFFIX = ".skipped.jsonl"  # of 00012.skipped.jsonl, beside 00012.safetensors


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, a line of such a file.

    Attributes:
        row: of the image in its shard.
        reason: one line that names the file.
        state: of the file before it was read, as `file_state` gives it.
    """

    row: int
    reason: str
    state: str


def file_state(path: Path) -> str:
    """Size and time of a file, which change when it is mended; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def write_skipped(shard: Path, skipped: Sequence[Skipped]) -> None:
    """Say what a shard lacks; nothing is left of what was said before."""
    path = shard.with_suffix(SUFFIX)
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        file.writelines(f"{json.dumps(asdict(each), ensure_ascii=False)}\n" for each in skipped)


def read_skipped(folder: Path) -> dict[int, list[Skipped]]:
    """What the shards of a folder lack, by the shard's number."""
    return {
        int(path.name.removesuffix(SUFFIX)): [
            Skipped(**json.loads(line)) for line in path.read_text("utf-8").splitlines()
        ]
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }
