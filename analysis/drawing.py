"""Writes figures so that equal figures give equal bytes."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from dapa_exp.base.files import atomic

SUFFIXES = ("png", "svg")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as NAME.FORMAT for each format. Returns the paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in SUFFIXES]
    for path, suffix in zip(paths, SUFFIXES, strict=True):
        metadata = {"Date": None} if suffix == "svg" else None
        with atomic(path) as part, rc_context({"svg.hashsalt": name}):
            figure.savefig(part, format=suffix, dpi=160, metadata=metadata)
    return paths
