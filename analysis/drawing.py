"""How figures are written: the same figure as the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

SUFFIXES = ("png", "svg")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in each format, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in SUFFIXES]
    for path, suffix in zip(paths, SUFFIXES, strict=True):
        part = path.with_name(f".{path.name}.{os.getpid()}")
        metadata = {"Date": None} if suffix == "svg" else None
        with rc_context({"svg.hashsalt": name}):
            figure.savefig(part, format=suffix, dpi=160, metadata=metadata)
        part.replace(path)
    return paths
