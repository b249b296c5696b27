"""How figures are written."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from dapa_exp.base.files import atomic

SUFFIXES = ("png", "svg")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in each format."""
    paths = [folder / f"{name}.{suffix}" for suffix in SUFFIXES]
    for path, suffix in zip(paths, SUFFIXES, strict=True):
        with atomic(path) as part:
            figure.savefig(part, format=suffix, dpi=160)
    return paths
