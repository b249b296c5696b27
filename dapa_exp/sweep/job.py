"""One run of a sweep, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dapa_exp.config.schema import Config


@dataclass(frozen=True)
class Job:
    """A planned run: its checked config, its identity, and its folder."""

    config: Config
    overrides: tuple[str, ...]
    identity: str
    folder: Path
    unswept: tuple[str, ...] = ()
    """Keys that the experiment sweeps with -m, if this is a single run without -m that does not set them."""
