"""Writes figures: a PNG on white, and an SVG that also reads on a dark page, alone or in the report's page.

Equal figures give equal bytes.
"""

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
COLOURS = {"#000000": "currentColor", "black": "currentColor"}
PAPER = {"#ffffff": "var(--paper)", "white": "var(--paper)"}
DARK = "<style>svg:root{color:#000} @media (prefers-color-scheme:dark){svg:root{color:#e8e8e8}}</style>"
"""The colour of an SVG's text where it stands alone. In a page, its text has the colour of the page's."""


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as NAME.FORMAT for each format. Returns the paths."""
    png, svg = (folder / f"{name}.{suffix}" for suffix in SUFFIXES)
    with atomic(png) as part:
        figure.savefig(part, format="png", dpi=DOTS)
    write_atomically(svg, svg_text(figure, name))
    return [png, svg]


def svg_text(figure: Figure, name: str, in_page: bool = False) -> str:
    """The figure as SVG, transparent, with `currentColor` for black. Equal figures give equal text.

    `in_page` makes an element of an HTML page: its text stays text, its white is the page's paper, and no id is that
    of another figure.
    """
    stream = StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none" if in_page else "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    colours = COLOURS | (PAPER if in_page else {})
    text = re.sub(r"(?<=: )(#\w+|black|white)(?=[;\"])", lambda of: colours.get(of[1], of[1]), stream.getvalue())
    if not in_page:
        return re.sub(r"<svg ([^>]*>)", rf'<svg fill="currentColor" \1{DARK}', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
