"""Writes figures: a PNG on white, and an SVG that also reads on a dark page. Equal figures give equal bytes."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from dapa_exp.base.files import atomic, write_atomically

SUFFIXES = ("png", "svg")
DOTS = 300
"""A PNG's dots per inch."""
DARK = "<style>svg:root{color:#000} @media (prefers-color-scheme:dark){svg:root{color:#e8e8e8}}</style>"
"""The colour of an SVG's text where it stands alone. In a page, its text has the colour of the page's."""


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as NAME.FORMAT for each format. Returns the paths."""
    png, svg = (folder / f"{name}.{suffix}" for suffix in SUFFIXES)
    with atomic(png) as part:
        figure.savefig(part, format="png", dpi=DOTS)
    write_atomically(svg, svg_text(figure, name))
    return [png, svg]


def svg_text(figure: Figure, name: str) -> str:
    """The figure as SVG, transparent, with `currentColor` for black."""
    stream = StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"(?<=: )(#000000|black)(?=[;\"])", "currentColor", stream.getvalue())
    return re.sub(r"<svg ([^>]*>)", rf'<svg fill="currentColor" \1{DARK}', text, count=1)
