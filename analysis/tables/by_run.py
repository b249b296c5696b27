"""What tables with several rows a run share: the rows of each run, then the means over runs with equal settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.measures import mean_bounds, runs_of, settings_that_tell_apart, with_holm

NumbersOf = Callable[[pd.DataFrame, list[str]], Iterator[dict[str, Any]]]
"""The rows of each run, from the long DataFrame and the columns of `runs_of` that each row repeats."""


@dataclass(frozen=True)
class ByRun:
    """The rows of each run, and their means if there are several runs."""

    rows: pd.DataFrame
    settings: list[str]
    """The settings in which runs differ."""
    tests: int
    """How many tests Holm's correction counts."""


def by_run(
    done: pd.DataFrame, numbers_of: NumbersOf, step: str, rates: Sequence[str], tests: Sequence[str], value: str = ""
) -> ByRun:
    """The rows of runs, one for each `step`, with p-values corrected over all `tests`.

    A mean is taken of each rate, whose column is its name and `value`, and of its change where there is one.
    """
    runs = runs_of(done)
    settings = settings_that_tell_apart(runs)
    numbers = with_holm(pd.DataFrame(numbers_of(done, ["pair", "teacher", *settings])), tests)
    rows = numbers
    if len(runs) > 1:
        groups = numbers.groupby([*settings, step], sort=False)
        means = [dict(zip([*settings, step], keys, strict=True)) | _mean(of, rates, value) for keys, of in groups]
        rows = pd.concat([numbers, pd.DataFrame(means)], ignore_index=True)
    return ByRun(rows, settings, int(numbers[list(tests)].notna().sum().sum()))


def _mean(group: pd.DataFrame, rates: Sequence[str], value: str) -> dict[str, Any]:
    row: dict[str, Any] = {"pair": f"mean (n={len(group)})"}
    for rate in rates:
        values = group[f"{rate}{value}"]
        low, high = np.clip(mean_bounds(values, group["teacher"]), 0.0, 1.0)
        row |= {f"{rate}{value}": values.mean(), f"{rate}_low": low, f"{rate}_high": high}
        if f"{rate}_change" in group:
            row[f"{rate}_change"] = group[f"{rate}_change"].mean()
    return row
