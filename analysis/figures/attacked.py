"""The attacked figure: the DSR of student, hybrid and teacher, plain and under each published jailbreak."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.entries import SUBJECTS
from analysis.figures.style import COLOURS, MARKS, any_made_here, column_figure, legend_below, light_grid
from analysis.registry import FIGURES, FigureMaker
from analysis.tables.attacked import attacked_numbers, attacked_runs


def attacked_data(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and attack, the plain rows among them."""
    done = attacked_runs(frame)
    return pd.DataFrame(attacked_numbers(done, ["pair", "made_here"]))


def draw_attacked(data: pd.DataFrame) -> Figure:
    """A figure with a line for each attack: a mark for each run's model, at its DSR."""
    prompts = list(dict.fromkeys(data["prompts"]))
    title = f"DSR under published jailbreaks, {data['pair'].nunique()} pair(s)"
    figure = column_figure(0.9 + 0.45 * len(prompts), title, any_made_here(data))
    axis = figure.subplots()
    for place, (subject, colour, mark) in enumerate(zip(SUBJECTS, COLOURS, MARKS, strict=False)):
        y = [prompts.index(name) + 0.22 * (place - 1) for name in data["prompts"]]
        axis.plot(100 * data[subject], y, mark, color=colour, ms=3.5, alpha=0.7, mew=0, label=subject)
    axis.set_yticks(range(len(prompts)), [name.replace("_", " ") for name in prompts])
    axis.invert_yaxis()
    axis.set_xlim(-3, 103)
    axis.set_xlabel("DSR (%)")
    light_grid(axis, "x")
    legend_below(figure, axis, 3)
    return figure


FIGURES.register("attacked", FigureMaker(attacked_data, draw_attacked, place=80))
