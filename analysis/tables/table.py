"""A finished table, and its output as Markdown, CSV, LaTeX or on a terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from textwrap import wrap

import numpy as np
import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.tables.cells import DASH

NOT_MEASURED = "not measured"
NO_EVIDENCE = "Miniature or fine-tuned models made here: no evidence about real ones."
GAP = 2  # between columns on a terminal: one of padding, one of the box

ROOM = 24
"""The columns of a terminal that labels leave to a number."""
PAGE = 130
"""The characters that a line of a paper's page holds at a readable size."""
LEAST = 8
"""The shortest label that is cut."""

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "→": r"$\rightarrow$",
        "≈": r"$\approx$",
        "≥": r"$\geq$",
        "×": r"$\times$",
        "†": r"$\dagger$",
        "‡": r"$\ddagger$",
        "−": r"$-$",
        "≤": r"$\leq$",
    }
)


@dataclass(frozen=True)
class Table:
    """A table as printed text (`display`) and as numbers in full precision (`numbers`).

    The first `labels` columns name a row. A line is drawn above each row in `rules`. `notes` explain the marks in
    cells. An `upright` table is printed transposed on a terminal: each column becomes a line.

    `gaps` says why numbers of a row are missing, row by row. Without it, they were not measured.
    """

    name: str
    title: str
    caption: str
    """What the columns mean, a sentence or two on each line."""
    display: pd.DataFrame
    numbers: pd.DataFrame
    labels: int = 1
    rules: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    upright: bool = False
    gaps: Sequence[str] = ()

    def whys(self) -> list[str]:
        """Why numbers of each row are missing; an empty string where none is."""
        missing = [any(DASH in cell and DASH in re.split("[ /]", cell) for cell in cells) for cells in self._rows()]
        return [
            why if gone else "" for gone, why in zip(missing, self.gaps or [NOT_MEASURED] * len(missing), strict=True)
        ]

    def about(self) -> str:
        """The caption, and why numbers are missing."""
        gaps = [why.split("; ") for why in self.whys() if why]
        rows = Counter(why for whys in gaps for why in whys)
        each = [f"{why} ({_rows(count)})" if count < len(gaps) else why for why, count in rows.items()]
        return "\n".join([self.caption, *([f"{DASH}: {'; '.join(each)}."] if gaps else [])]).strip()

    def to_markdown(self) -> str:
        """The table as Markdown: heading, rows, caption and notes."""
        align = ["left" if i < self.labels else "right" for i in range(self.display.shape[1])]
        escaped = self.display.map(lambda cell: " ".join(cell.split()).replace("|", r"\|").replace("*", r"\*"))
        table = escaped.to_markdown(index=False, disable_numparse=True, colalign=align)
        parts = [f"## {self.title}", table, self.about().replace("*", r"\*"), *(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts[:3]) + "\n" + "".join(f"\n{note}" for note in parts[3:]) + "\n"

    def to_csv(self) -> str:
        """The numbers as CSV with one header line. Unknown numbers are empty; the column `gap` says why."""
        whys = self.whys()
        if len(self.numbers) == len(whys) and any(whys):
            return self.numbers.assign(gap=whys).to_csv(index=False)
        return self.numbers.to_csv(index=False)

    def to_latex(self) -> str:
        """The table as LaTeX floats, which need booktabs and graphicx.

        Columns that do not fit the page at a readable size go to further floats, which repeat the labels.
        """
        title, notes = _latex(_sentence(self.title)), [rf"\par\footnotesize {_latex(note)}" for note in self.notes]
        panels = list(self._panels(PAGE))
        floats = [r"% needs \usepackage{booktabs,graphicx}"]
        for i, names in enumerate(panels):
            above = [rf"\caption{{{title} {_latex(self.about())}}}", rf"\label{{tab:{self.name}}}"]
            floats += [r"\begin{table*}", r"\centering", *([rf"{title} Continued.\par"] if i else above)]
            floats += [*self._tabular(names), *(notes if names is panels[-1] else []), r"\end{table*}"]
        return "\n".join([*floats, ""])

    def _tabular(self, names: Sequence[str]) -> list[str]:
        """These columns as a tabular, scaled down to the page if it is wider."""
        rows = [_latex_row(map(_latex, cells)) for cells in self.display[names].itertuples(index=False)]
        return [
            r"\medskip\setlength{\tabcolsep}{4pt}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * self.labels + 'r' * (len(names) - self.labels)}}}",
            r"\toprule",
            _latex_row(self._latex_heading(name, "l" if i < self.labels else "r") for i, name in enumerate(names)),
            r"\midrule",
            *("\\midrule\n" * (i in self.rules) + row for i, row in enumerate(rows)),
            r"\bottomrule",
            r"\end{tabular}}",
        ]

    def _latex_heading(self, name: str, side: str) -> str:
        """A column's heading, with line breaks between words if it is wider than the column's cells."""
        lines = _broken(_latex(name), self._width(name) - GAP)
        stacked = r" \\ ".join(lines)
        return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}" if len(lines) > 1 else stacked

    def print(self, console: Console) -> None:
        """Print the table in the width of the console."""
        console.print(Text(self.title, style="bold"))
        if self.upright:
            self._print_upright(console)
        else:
            self._shortened(console.width)._print_panels(console)
        for line in (*self.about().splitlines(), *self.notes):
            console.print(Text(line, style="dim"))
        console.print()

    def _shortened(self, width: int) -> Table:
        """The table with labels cut where all of them leave no room for a number beside them."""
        labels = list(self.display.columns[: self.labels])
        if sum(map(self._width, labels)) + ROOM <= width:
            return self
        most = max(LEAST, (width - ROOM) // len(labels) - GAP)
        cut = self.display[labels].map(lambda cell: cell if cell_len(cell) <= most else f"{cell[: most - 1]}…")
        return replace(self, display=self.display.assign(**cut))

    def _print_panels(self, console: Console) -> None:
        """Print the table in panels. Columns that do not fit the width go to panels below, which repeat the labels."""
        labels = set(self.display.columns[: self.labels])
        for names in self._panels(console.width):
            widths = [self._width(name) - GAP for name in names]
            sides = ["left" if name in labels else "right" for name in names]
            rule = "─" * (sum(widths) + GAP * (len(names) - 1))

            def line(cells: Iterable[str], widths: list[int] = widths, sides: list[str] = sides) -> str:
                return (" " * GAP).join(map(_padded, cells, widths, sides)).rstrip()

            rows = [line(cells) for cells in self.display[names].itertuples(index=False)]
            body = [f"{rule}\n{row}" if i in self.rules else row for i, row in enumerate(rows)]
            console.out(*map(line, _headings(names, widths)), sep="\n", style="bold", highlight=False)
            console.out(rule, *body, "", sep="\n", highlight=False)

    def _print_upright(self, console: Console) -> None:
        upright = RichTable(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
        )
        upright.add_column(Text(str(self.display.columns[0])), style="bold", no_wrap=True)
        for cells in self._rows():
            upright.add_column(Text(cells[0]), overflow="fold")
        for name in self.display.columns[1:]:
            upright.add_row(Text(name), *(Text(cell) for cell in self.display[name]))
        console.print(upright)

    def _rows(self) -> Iterator[list[str]]:
        return (list(cells) for cells in self.display.itertuples(index=False))

    def _panels(self, width: int) -> Iterator[list[str]]:
        """Yields groups of columns that fit the width. Each group has at least one column beside the labels."""
        labels, others = list(self.display.columns[: self.labels]), list(self.display.columns[self.labels :])
        start = sum(self._width(name) for name in labels)
        panel, used = [*labels], start
        for name in others:
            if used + self._width(name) > width and len(panel) > len(labels):
                yield panel
                panel, used = [*labels], start
            panel.append(name)
            used += self._width(name)
        yield panel

    def _width(self, name: str) -> int:
        """A column's width on a terminal. Headings may be broken between words, cells may not."""
        words, cells = max((cell_len(word) for word in name.split()), default=0), self.display[name].map(cell_len).max()
        return max(words, int(cells)) + GAP


def new_blocks(numbers: pd.DataFrame, names: list[str]) -> list[int]:
    """The numbers of the rows that differ from the row above in any of these columns."""
    cells = numbers[names].astype("object").to_numpy()
    return [int(i) + 1 for i in np.flatnonzero((cells[1:] != cells[:-1]).any(axis=1))]


def _headings(names: Sequence[str], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """The lines of the headings, broken between words, with the last words in the last line."""
    broken = list(map(_broken, names, widths))
    height = max(map(len, broken))
    return list(zip(*([""] * (height - len(lines)) + lines for lines in broken), strict=True))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _broken(heading: str, width: int) -> list[str]:
    return wrap(heading, width, break_long_words=False, break_on_hyphens=False)


def _padded(cell: str, width: int, side: str) -> str:
    gap = " " * (width - cell_len(cell))
    return cell + gap if side == "left" else gap + cell


def _sentence(title: str) -> str:
    return title if title.endswith("?") else f"{title}."


def _latex(text: str) -> str:
    """Text with LaTeX's special characters escaped, and hyphens of negative numbers as minus signs.

    Characters beyond Latin, which a paper's fonts lack, become question marks.
    """
    known = text.translate(LATEX)
    if not known.isascii():
        known = re.sub(r"[^\n -~¡-ſ]", "?", known)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", known) if "-" in known else known


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
