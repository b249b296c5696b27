"""Curves: what each share of the parameters buys, in the order in which units or neurons are taken."""

from __future__ import annotations

import pandas as pd

from analysis.entries import NAN
from analysis.measures import Cells, done_of, runs_of
from dapa_exp.evaluate.statistics import mean

KEYS = ["pair", "granularity", "order", "share"]
MEASURED = ["moved", "dsr", "over_refusal", "perplexity_change", "skill"]
ENDS = ["student_dsr", "teacher_dsr", "student_skill", "teacher_skill"]
_SHARES = {"search.share": "search.prior", "transplant.share": "transplant.by"}
"""The settings that name a share, each with the one that names its order."""


def has_curves(frame: pd.DataFrame) -> bool:
    """Whether runs replace different shares of the parameters."""
    shares = frame[(frame["metric"] == "setting") & frame["key"].isin(list(_SHARES))]
    return shares["text"].nunique() > 1


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair, granularity, order and share: means over the runs, which differ in their seeds.

    The DSR of a single run has the interval over its rows; a mean has that over its runs. Shares are from 0 to 1.
    """
    runs = _points(done_of(frame))
    rows = []
    for keys, group in runs.groupby(KEYS, sort=False):
        low, high = group[["low", "high"]].iloc[0] if len(group) == 1 else _bounds(group["dsr"])
        rows.append(
            {
                **dict(zip(KEYS, keys, strict=True)),
                **{str(name): value for name, value in group[[*MEASURED, *ENDS]].mean().items()},
                **{"low": low, "high": high, "runs": len(group), "made_here": bool(group["made_here"].any())},
            }
        )
    return pd.DataFrame(rows).sort_values(KEYS, ignore_index=True)


def _bounds(values: pd.Series[float]) -> tuple[float, float]:
    """The interval of a mean of shares; NaN if all are equal."""
    over = mean(values.tolist())
    return (NAN, NAN) if over.low is None or over.high is None else (max(0.0, over.low), min(1.0, over.high))


def _points(done: pd.DataFrame) -> pd.DataFrame:
    runs, cells = runs_of(done, [*_SHARES, *_SHARES.values()]), Cells(done)
    points = runs[["pair", "granularity", "made_here"]].copy()
    points["order"], points["share"] = "", NAN
    for share, order in _SHARES.items():
        if share in runs:
            named = runs[share] != ""
            points.loc[named, "share"] = runs.loc[named, share].astype("float64")
            points.loc[named, "order"] = runs.loc[named, order]
    points["order"] = points["order"].where(cells.text("method") == "copy", "neurons by " + points["order"])
    points["moved"] = cells.number("parameters_moved_percent") / 100
    for part, name in (("value", "dsr"), ("low", "low"), ("high", "high")):
        points[name] = cells.number("dsr", part, subject="hybrid")
    points["over_refusal"] = cells.number("over_refusal", subject="hybrid")
    points["perplexity_change"] = cells.number("perplexity_change", subject="hybrid", against="student")
    points["skill"] = cells.number("skill", subject="hybrid", key="accuracy")
    for subject in ("student", "teacher"):
        points[f"{subject}_dsr"] = cells.number("dsr", subject=subject)
        points[f"{subject}_skill"] = cells.number("skill", subject=subject, key="accuracy")
    return points[points["share"].notna()]
