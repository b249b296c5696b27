"""Draws the figure of a localisation: causal tracing by layer, and the effects of single projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import save
from analysis.figures.style import COLOURS, MARKS, STYLE, column_figure, legend_below, light_grid
from dapa_exp.record.localisation import LocaliseRecord
from dapa_exp.record.measure import Measure

MODULES = ("gate_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "o_proj")
"""The rows of the heat maps, from the top. Modules of other architectures come below."""
KINDS = ("residual", "mlp", "attention")
PLACES = {"request": "teacher, restored at the request", "last": "teacher, restored at the last token"}


def draw_localisation(record: LocaliseRecord, folder: Path) -> list[Path]:
    """Write `localise.png` and `localise.svg`. Returns their paths."""
    with rc_context(STYLE):
        return save(_figure(record), folder, "localise")


def _figure(record: LocaliseRecord) -> Figure:
    counted = f"{record.tracing.total.log_odds.n} of {record.prompts} prompts, which the two answer differently"
    figure = column_figure(7.6, f"{record.title}: {record.pair}\n{counted}", record.made_here)
    axes = figure.subplots(4, 1)
    for axis, (place, title) in zip(axes[:2], PLACES.items(), strict=True):
        _tracing(axis, record, place, title)
    lows, highs = zip(*(axis.get_ylim() for axis in axes[:2]), strict=True)
    for axis in axes[:2]:
        axis.set_ylim(min(lows), max(highs))
    legend_below(figure, axes[0], 2)
    _swaps(figure, axes[2], record, "log_odds_change", "one projection swapped: log-odds, nats")
    _swaps(figure, axes[3], record, "cosine_change", "one projection swapped: cosine")
    return figure


def _tracing(axis: Axes, record: LocaliseRecord, place: str, title: str) -> None:
    """Plot indirect effects with their 95 % intervals, and the total effect as the upper limit to compare with."""
    for kind, colour, mark in zip(KINDS, COLOURS, MARKS, strict=False):
        found = [traced for traced in record.tracing.effects if (traced.kind, traced.place) == (kind, place)]
        layers, effects = [traced.layer for traced in found], [traced.effect.log_odds for traced in found]
        axis.plot(layers, [effect.value for effect in effects], marker=mark, color=colour, label=kind, ms=3, lw=1)
        low, high = zip(*map(_interval, effects), strict=True)
        axis.fill_between(layers, low, high, color=colour, alpha=0.15, lw=0)
    axis.axhline(record.tracing.total.log_odds.value, color="black", lw=0.8, ls=":", label="total effect")
    axis.axhline(0, color="black", lw=0.6)
    axis.set_title(title, loc="left")
    light_grid(axis, "both")
    axis.set_xlabel("layer")
    axis.set_ylabel("refusal log-odds, nats")
    axis.set_xticks(_ticks(record.num_layers))


def _swaps(figure: Figure, axis: Axes, record: LocaliseRecord, number: str, title: str) -> None:
    """Plot a heat map of projections by layers. A dot marks a 95 % interval that contains zero."""
    there = {swap.module for swap in record.swapping.projections}
    modules = [m for m in MODULES if m in there] + sorted(there - set(MODULES))
    values = np.zeros((len(modules), record.num_layers))
    for swap in record.swapping.projections:
        measure: Measure = getattr(swap, number)
        place = modules.index(swap.module), swap.layer
        values[place] = measure.value
        low, high = _interval(measure)
        if low <= 0 <= high:
            axis.plot(place[1], place[0], ".", color="grey", ms=3)
    reach = np.abs(values).max() or 1.0
    image = axis.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    figure.colorbar(image, ax=axis)
    axis.set_title(title, loc="left")
    axis.set_xlabel("layer (dot: not told from zero)")
    axis.set_xticks(_ticks(record.num_layers))
    axis.set_yticks(range(len(modules)), modules)


def _interval(measure: Measure) -> tuple[float, float]:
    low, high = measure.low, measure.high
    return (measure.value if low is None else low, measure.value if high is None else high)


def _ticks(num_layers: int) -> range:
    return range(0, num_layers, 1 if num_layers <= 16 else 4)
