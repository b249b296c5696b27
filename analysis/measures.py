"""The numbers that tables are made of, a row a run, taken from the long frame.

Rates and DSRs are shares from 0 to 1; a column that ends in `_points` is a difference of shares times 100.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import pandas as pd

from analysis.frame import RUN, SUBJECTS
from dapa_exp.evaluate.statistics import LEVEL, Z, detectable_gain, mean_over_groups
from dapa_exp.record.schema import ROUNDING

MEANED = [
    *(f"{subject}_{name}" for subject in SUBJECTS for name in ("dsr", "retracted", "degenerate", "failed")),
    "gain_points",
    "random_dsr",
    "hybrid_search_dsr",
    "everything_search_dsr",
    "bar",
    "optimism_points",
    "units_found",
    "units_total",
    "parameters_changed_percent",
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
OF_A_FOUND_SET = ["units_found", "units_total", "parameters_changed_percent", "parameters_percent", "optimism_points"]


LONGEST_SETTING = 20
"""Characters of a setting that fits a column; digests do not."""


class Cells:
    """Looks up one number of every run: of the run's own judge, and of the report and harmless rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        rows = frame[frame["headline"] & (frame["metric"] != "setting")]
        by = rows.groupby(["metric", "subject", "against", "key"], observed=True, sort=False)
        self._found = {names: group.set_index("identity") for names, group in by}
        self._runs = pd.Index(frame["identity"].unique())

    def number(
        self, metric: str, part: str = "value", *, subject: str = "", against: str = "", key: str = ""
    ) -> pd.Series[float]:
        """One column of the number, in the order of the runs; empty where a run does not have it."""
        found = self._found.get((metric, subject, against, key))
        column = pd.Series(dtype="float64") if found is None else found[part].astype("float64")
        return column.reindex(self._runs).reset_index(drop=True)

    def text(self, metric: str) -> pd.Series[str]:
        """What a run has in place of a number."""
        found = self._found.get((metric, "", "", ""))
        column = pd.Series(dtype="object") if found is None else found["text"].astype("object")
        return column.reindex(self._runs).reset_index(drop=True)


def runs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a run: what says which run it is, and every setting that decides a result, as text, under its key.

    A setting is blank where a run has none of that name, or was never started.
    """
    runs = frame.drop_duplicates("identity")[RUN].reset_index(drop=True)
    runs = runs.astype({name: "object" for name in RUN if name != "made_here"})
    settings = frame[frame["metric"] == "setting"].astype({"key": "object", "identity": "object", "text": "object"})
    if settings.empty:
        return runs
    wide = settings.pivot(index="identity", columns="key", values="text")[settings["key"].unique()]
    return runs.join(wide, on="identity").fillna(dict.fromkeys(wide.columns, ""))


def measure(frame: pd.DataFrame, settings: Collection[str] = ()) -> pd.DataFrame:
    """Columns named as tables name them; empty where a run is not done, or did not measure something.

    `settings` are further columns of the runs that are wanted.
    """
    cells, runs = Cells(frame), runs_of(frame)
    table = runs[[*RUN, *(name for name in settings if name not in RUN)]].copy()

    def change(metric: str) -> pd.Series[float]:
        return cells.number(metric, subject="hybrid") - cells.number(metric, subject="student")

    table["prompts_judged"] = cells.number("dsr", "n", subject="hybrid")
    for subject in SUBJECTS:
        for part, name in (("value", ""), ("low", "_low"), ("high", "_high")):
            table[f"{subject}_dsr{name}"] = cells.number("dsr", part, subject=subject)
        completions = cells.number("outcome", "n", subject=subject, key="failed")
        for name in ("retracted", "degenerate", "failed"):
            table[f"{subject}_{name}"] = cells.number("outcome", subject=subject, key=name) / completions
    table["gain_points"] = 100 * change("dsr")
    table["p_value"] = cells.number("dsr_p", subject="hybrid", against="student")
    table["status"] = cells.text("status")
    table["stopped_by"] = cells.text("stopped_by")
    # without a gain, the bar of the search is about the student's own DSR, and to reach it says nothing
    tested = (table["status"] != "no_gain") & (table["prompts_judged"] > 0)
    table["above_threshold"] = cells.number("above_bar", subject="hybrid").where(tested)
    table["above_threshold_by_group"] = cells.number("above_bar_by_group", subject="hybrid").where(tested)
    for subject in (*SUBJECTS, "everything"):
        table[f"{subject}_search_dsr"] = cells.number("search_dsr", subject=subject)
    table["bar"] = cells.number("bar").where(table["status"] != "no_gain")
    table["threshold"] = cells.number("threshold")
    table["units_suffice"] = _units_suffice(table)
    table["optimism_points"] = 100 * (table["hybrid_search_dsr"] - table["hybrid_dsr"])
    table["random_dsr"] = cells.number("random_dsr", subject="random")
    table["random_draws"] = cells.number("random_dsr", "n", subject="random").fillna(0).where(table["state"] == "done")
    table["units"] = _units(frame, table)
    table["units_found"] = cells.number("units_found")
    table["units_total"] = cells.number("units_total")
    table["parameters_changed_percent"] = cells.number("parameters_changed_percent")
    table["parameters_percent"] = cells.number("parameters_moved_percent")
    table["perplexity_change"] = change("perplexity")
    table["reasoning_change_points"] = 100 * change("reasoning")
    table["student_over_refusal"] = cells.number("over_refusal", subject="student")
    table["hybrid_over_refusal"] = cells.number("over_refusal", subject="hybrid")
    table["over_refusal_change_points"] = 100 * change("over_refusal")
    table["sample_seed"] = cells.number("sample_seed")
    table["non_monotone"] = cells.number("non_monotone")
    for name in ("queries", "prompts", "tokens", "seconds"):
        table[name] = cells.number(name)
    return table


def _units_suffice(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether all units together reach what the search asks for of the teacher's own gain; empty where not done."""
    student, teacher = table["student_search_dsr"], table["teacher_search_dsr"]
    enough = table["everything_search_dsr"] >= student + table["threshold"] * (teacher - student) - ROUNDING
    return enough.astype("object").where(table["everything_search_dsr"].notna())


def _units(frame: pd.DataFrame, table: pd.DataFrame) -> pd.Series[str]:
    """The names of the units found; None where a run is not done."""
    rows = frame[frame["metric"] == "unit"]
    names = rows.groupby("identity", observed=True, sort=False)["key"].agg(" ".join)
    found = table["identity"].map(names.astype("object")).astype("object")
    return found.where(found.notna(), "").where(table["state"] == "done", None)


@cache
def power(n: int, level: float) -> float | None:
    """The gain in points, without losses, that the exact test at this level finds with 80 % power on n rows."""
    gain = detectable_gain(0.0, n, level)
    return None if gain is None else 100 * gain


def detectable_points(measured: pd.DataFrame, tests: int = 1) -> pd.Series[float]:
    """`power` of each run's test against its student, at Holm's first step of so many; empty where none would do."""
    tested = measured[measured["p_value"].notna()]
    found = [power(int(n), LEVEL / tests) for n in tested["prompts_judged"]]
    points = pd.Series(found, index=tested.index, dtype="float64")
    return points.where(points <= 100 * (1 - tested["student_dsr"]))


def settings_that_vary(runs: pd.DataFrame) -> list[str]:
    """The settings, besides the pair, that tell the runs apart."""
    return [name for name in ("experiment", "granularity", "search", "dataset") if runs[name].nunique() > 1]


def settings_that_tell_apart(runs: pd.DataFrame) -> list[str]:
    """The settings that vary, and as many keys of the config as it takes to tell the runs of a pair apart.

    Where no keys do, the start of the identity does.
    """
    names = settings_that_vary(runs)
    config = [name for name in map(str, runs) if name not in RUN]
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


def done_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that are done."""
    return frame[frame["state"] == "done"]


def by_settings(done: pd.DataFrame) -> tuple[list[str], list[tuple[dict[str, str], pd.DataFrame]]]:
    """The settings that tell runs apart, and for each of their values the rows of its runs: one of a pair."""
    runs = runs_of(done)
    names = settings_that_tell_apart(runs)
    groups = (group for _, group in runs.groupby(names, sort=False)) if names else [runs]
    return names, [
        ({name: str(group[name].iloc[0]) for name in names}, done[done["identity"].isin(group["identity"])])
        for group in groups
    ]


def means(measured: pd.DataFrame) -> pd.Series[float]:
    """The mean of each number over the runs that have it; what a search found counts only where it found a set."""
    return numbers_of(measured).mean()


def counts(measured: pd.DataFrame) -> pd.Series[int]:
    """Over how many runs each of the means was taken."""
    return numbers_of(measured).count()


def mean_dsr_bounds(measured: pd.DataFrame, subject: str = "hybrid") -> tuple[float, float]:
    """The interval of a mean DSR, which knows which pairs share a teacher; NaN for fewer than two runs."""
    known = measured[measured[f"{subject}_dsr"].notna()]
    if len(known) < 2:
        return float("nan"), float("nan")
    found = mean_over_groups(known[f"{subject}_dsr"].tolist(), known["teacher"].tolist(), row_error(known, subject))
    if found.low is None or found.high is None:
        return float("nan"), float("nan")
    return max(0.0, found.low), min(1.0, found.high)


def row_error(known: pd.DataFrame, subject: str = "hybrid") -> float:
    """The standard error that a mean DSR has by the report rows alone, from each DSR's own interval."""
    half = (known[f"{subject}_dsr_high"] - known[f"{subject}_dsr_low"]) / (2 * Z)
    return float((half**2).sum() ** 0.5 / len(known))


def numbers_of(measured: pd.DataFrame) -> pd.DataFrame:
    """The numbers that means are taken of; what a search found is left out where it found no set."""
    numbers = measured[MEANED].copy()
    numbers.loc[measured["status"] == "no_gain", OF_A_FOUND_SET] = float("nan")
    return numbers
