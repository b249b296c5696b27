"""The numbers that tables are made of, a row a run, computed from the records' columns.

Rates and DSRs are shares from 0 to 1; a column that ends in `_points` is a difference of shares times 100.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

SUBJECTS = ("student", "hybrid", "teacher")
OUTCOMES = ("refused", "retracted", "harmless", "harmful", "degenerate", "failed")
KEYS = [
    *("experiment", "folder", "identity", "run", "pair", "family", "granularity", "search", "dataset"),
    *("state", "reason"),
]
MEANED = [
    *(f"{subject}_{name}" for subject in SUBJECTS for name in ("dsr", "retracted", "degenerate", "failed")),
    "gain_points",
    "random_dsr",
    "units_found",
    "units_total",
    "parameters_percent",
    "perplexity_change",
    "reasoning_change_points",
    "student_over_refusal",
    "hybrid_over_refusal",
    "over_refusal_change_points",
    "queries",
    "prompts",
    "tokens",
    "seconds",
]
OF_A_FOUND_SET = ["units_found", "units_total", "parameters_percent"]


LONGEST_SETTING = 20
"""Characters of a setting that fits a column; digests do not."""


def measure(runs: pd.DataFrame, settings: Collection[str] = ()) -> pd.DataFrame:
    """Columns named as tables name them; empty where a run is not done, or did not measure something.

    `settings` are further columns of the runs that are wanted.
    """

    def number(name: str) -> pd.Series[float]:
        column = runs[name] if name in runs else pd.Series(float("nan"), index=runs.index)
        return pd.to_numeric(column)

    def text(name: str) -> pd.Series[str]:
        return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype=object)

    def change(metric: str) -> pd.Series[float]:
        return number(f"evaluate/hybrid/{metric}/value") - number(f"evaluate/student/{metric}/value")

    table = runs[[*KEYS, *(name for name in settings if name not in KEYS)]].copy()
    table["made_here"] = text("pair/made_here").eq(True)
    table["prompts_judged"] = number("evaluate/hybrid/dsr/n")
    for subject in SUBJECTS:
        table[f"{subject}_dsr"] = number(f"evaluate/{subject}/dsr/value")
        table[f"{subject}_dsr_low"] = number(f"evaluate/{subject}/dsr/low")
        table[f"{subject}_dsr_high"] = number(f"evaluate/{subject}/dsr/high")
        counts = {name: number(f"evaluate/{subject}/outcomes/{name}") for name in OUTCOMES}
        counts["retracted"] = counts["retracted"].fillna(0)  # records from before it was told apart
        completions = sum(counts.values(), start=0.0)
        for name in ("retracted", "degenerate", "failed"):
            table[f"{subject}_{name}"] = counts[name] / completions
    table["gain_points"] = 100 * change("dsr")
    table["p_value"] = number("evaluate/comparisons/student/p_value").where(
        number("evaluate/comparisons/student/difference/n") > 0
    )
    # without a gain, the bar of the search is about the student's own DSR, and to reach it says nothing
    tested = (text("search/status") != "no_gain") & (table["prompts_judged"] > 0)
    table["above_threshold"] = number("evaluate/above_threshold").where(tested)
    table["detectable_points"] = 100 * number("evaluate/comparisons/student/detectable")
    table["random_dsr"] = number("evaluate/random/mean")
    table["random_draws"] = number("evaluate/random/dsr")
    table["units"] = text("units")
    table["units_found"] = number("search/units_found")
    table["units_total"] = number("search/units_total")
    table["parameters_percent"] = number("transplant/percent")
    table["perplexity_change"] = change("perplexity")
    table["reasoning_change_points"] = 100 * change("reasoning")
    table["student_over_refusal"] = number("evaluate/student/over_refusal/value")
    table["hybrid_over_refusal"] = number("evaluate/hybrid/over_refusal/value")
    table["over_refusal_change_points"] = 100 * change("over_refusal")
    for name in ("queries", "prompts", "tokens", "seconds"):
        table[name] = number(f"search/ledger/{name}")
    table["status"] = text("search/status")
    table["stopped_by"] = text("search/stopped_by")
    return table


def settings_that_vary(runs: pd.DataFrame) -> list[str]:
    """The settings, besides the pair, that tell the runs apart."""
    return [name for name in ("experiment", "granularity", "search", "dataset") if runs[name].nunique() > 1]


def settings_that_tell_apart(runs: pd.DataFrame) -> list[str]:
    """The settings that vary, and as many keys of the config as it takes to tell the runs of a pair apart.

    Where no keys do, the start of the identity does.
    """
    names = settings_that_vary(runs)
    config = [name for name in map(str, runs) if "." in name and "/" not in name]
    begun = runs[(runs[config] != "").any(axis=1)] if config else runs  # nothing is known of the others' settings
    for key in [name for name in config if runs[name].str.len().max() <= LONGEST_SETTING]:
        if _alike(begun, [*names, key]) < _alike(begun, names):
            names.append(key)
    return [*names, "run"] if _alike(begun, names) else names


def settings_besides_draws(runs: pd.DataFrame) -> list[str]:
    """The same without what only tells draws apart: seeds, and the start of the identity."""
    return [name for name in settings_that_tell_apart(runs) if name != "run" and not name.endswith("seed")]


def _alike(runs: pd.DataFrame, settings: list[str]) -> int:
    """How many runs have an earlier one with the same pair and settings."""
    return int(runs[["pair", *settings]].duplicated().sum())


def by_settings(done: pd.DataFrame) -> tuple[list[str], list[tuple[dict[str, str], pd.DataFrame]]]:
    """The settings that tell runs apart, and for each of their values the runs that have them: one of a pair."""
    names = settings_that_tell_apart(done)
    groups = (group for _, group in done.groupby(names, sort=False)) if names else [done]
    return names, [({name: str(group[name].iloc[0]) for name in names}, group) for group in groups]


def of_one_run(runs: pd.DataFrame) -> pd.DataFrame:
    """What intervals are taken from: a run by itself, else no run, since the mean of bounds is no bound of the mean."""
    return runs if len(runs) == 1 else runs.head(0)


def mean_of(runs: pd.DataFrame, column: str) -> float:
    """The mean of a record's number over the runs that have it."""
    return float(pd.to_numeric(runs[column]).mean()) if column in runs else float("nan")


def means(measured: pd.DataFrame) -> pd.Series[float]:
    """The mean of each number over the runs that have it; what a search found counts only where it found a set."""
    return _with_a_set(measured).mean()


def counts(measured: pd.DataFrame) -> pd.Series[int]:
    """Over how many runs each of the means was taken."""
    return _with_a_set(measured).count()


def _with_a_set(measured: pd.DataFrame) -> pd.DataFrame:
    numbers = measured[MEANED].copy()
    numbers.loc[measured["status"] == "no_gain", OF_A_FOUND_SET] = float("nan")
    return numbers
