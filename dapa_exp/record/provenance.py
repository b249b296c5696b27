"""Where a result comes from: versions, commit, machine, time."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("dapa_exp", "torch", "transformers", "tokenizers", "safetensors", "datasets", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@cache
def git_commit() -> str | None:
    """The commit of the checkout that the code runs from, '-dirty' where it was changed; None elsewhere."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def platform_name() -> str:
    """Operating system and processor, without the machine's name."""
    return f"{platform.system()} {platform.machine()}"


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
