"""How figures are written."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

SUFFIXES = ("png", "svg")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in each format, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in SUFFIXES]
    for path, suffix in zip(paths, SUFFIXES, strict=True):
        part = path.with_name(f".{path.name}")
        figure.savefig(part, format=suffix, dpi=160)
        part.replace(path)
    return paths
