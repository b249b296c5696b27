"""Matplotlib figures as part of the page: as SVG whose text stays text, in the page's colours of text and paper."""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape
from io import BytesIO, StringIO

from matplotlib import rc_context
from matplotlib.figure import Figure

_COLOURS = {"#000000": "currentColor", "black": "currentColor", "#ffffff": "var(--paper)", "white": "var(--paper)"}

LARGEST_SVG = 500_000
"""Characters. A larger figure, which has thousands of marks, is put in as a PNG, which is smaller."""


def picture_of(figure: Figure, name: str) -> str:
    """The figure as an element of the page, without its title: the page has it as a heading."""
    title = figure.get_suptitle() or name
    figure.suptitle("")
    svg = inline_svg(figure, name)
    if len(svg) <= LARGEST_SVG:
        return svg
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=200, facecolor="white")
    data = b64encode(stream.getvalue()).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element. Equal figures give equal text, and no id is that of another figure's."""
    stream = StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    return re.sub(r"(?<=: )(#000000|#ffffff|black|white)(?=[;\"])", lambda found: _COLOURS[found[1]], text)
