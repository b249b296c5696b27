"""One run of a sweep, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dapa_exp.config.schema import Config


@dataclass(frozen=True)
class Job:
    """One run to be: its config, checked, its identity, and the folder that it will fill."""

    config: Config
    overrides: tuple[str, ...]
    identity: str
    folder: Path
    unswept: tuple[str, ...] = ()
    """What its experiment sweeps, where this is one run and says nothing of it."""
