"""The wide DataFrame that tables are made from, with one row for each run, made from the long one.

Rates and DSRs are shares from 0 to 1. A column that ends in `_points` is a difference of shares times 100.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.entries import NAN, SUBJECTS
from analysis.frame import RUN
from dapa_exp.evaluate.statistics import LEVEL, Z, detectable_gain, difference_over_groups, mean_over_groups
from dapa_exp.record.measure import ROUNDING, Measure

MEANED = [
    *(f"{subject}_{name}" for subject in SUBJECTS for name in ("dsr", "retracted", "degenerate", "failed")),
    "gain_points",
    "random_dsr",
    "random_found_dsr",
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
NOT_NEGATIVE = (
    *("units_found", "units_total", "queries", "prompts", "tokens", "seconds"),
    *("perplexity", "word_perplexity", "kl_to_student", "kl_to_teacher"),
)
OF_A_FOUND_SET = ["units_found", "units_total", "parameters_changed_percent", "parameters_percent", "optimism_points"]


PARTS = {"": "value", "_low": "low", "_high": "high"}
"""The parts of a number with its interval, by the ending of their columns' names."""
INFINITY = float("inf")
LONGEST_SETTING = 20
"""Settings with more characters, such as digests, do not become columns."""


class Cells:
    """Looks up a number for every run. Numbers of DSR and over-refusal are the headline's: own judge, headline rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._run, runs = pd.factorize(frame["identity"])
        self._runs, self._text = len(runs), frame["text"]
        self._numbers = {part: frame[part].to_numpy("float64", na_value=NAN) for part in ("value", "low", "high", "n")}
        places = {name: frame[name].cat for name in ("subject", "against", "key")}
        self._codes = {name: place.codes.to_numpy() for name, place in places.items()}
        self._numbered = {name: {text: i for i, text in enumerate(place.categories)} for name, place in places.items()}
        headline = np.flatnonzero(frame["headline"])
        metrics = frame["metric"].iloc[headline]
        self._rows = {
            metric: headline[places] for metric, places in metrics.groupby(metrics, observed=True).indices.items()
        }

    def number(
        self, metric: str, part: str = "value", *, subject: str = "", against: str = "", key: str = ""
    ) -> pd.Series[float]:
        """One part of the number, for each run in order; NaN if a run does not have it."""
        rows = self._found(metric, subject=subject, against=against, key=key)
        column = np.full(self._runs, NAN)
        column[self._run[rows]] = self._numbers[part][rows]
        return pd.Series(column)

    def text(self, metric: str, subject: str = "") -> pd.Series[str]:
        """The text of a metric whose value is not a number, for each run in order; None if a run does not have it."""
        rows = self._found(metric, subject=subject, against="", key="")
        column = np.full(self._runs, None, dtype="object")
        column[self._run[rows]] = self._text.iloc[rows]
        return pd.Series(column)

    def _found(self, metric: str, **where: str) -> NDArray[np.intp]:
        """The places of the rows that hold this metric of this subject, against this model, with this key."""
        rows = self._rows.get(metric, np.array([], dtype=np.intp))
        for name, wanted in where.items():
            rows = rows[self._codes[name][rows] == self._numbered[name].get(wanted, -1)]
        return rows


def runs_of(frame: pd.DataFrame, only: Collection[str] | None = None) -> pd.DataFrame:
    """One row for each run: the columns that describe it, and all settings that can change a result, as text by key.

    A setting is "" if a run does not have it, or was never started. `only` restricts the settings to these keys.
    """
    runs = frame.drop_duplicates("identity")[RUN].reset_index(drop=True)
    runs = runs.astype({name: "object" for name in RUN if name != "made_here"})
    settings = (frame["metric"] == "setting").to_numpy() & ~frame["key"].isin(RUN).to_numpy()
    if only is not None:
        settings = settings & frame["key"].isin(list(only)).to_numpy()
    run, _ = pd.factorize(frame["identity"])
    key, keys = pd.factorize(frame.loc[settings, "key"])
    wide = np.full((len(runs), len(keys)), "", dtype="object")
    wide[run[settings], key] = frame.loc[settings, "text"]
    return runs.join(pd.DataFrame(wide, columns=list(keys)))


def measure(frame: pd.DataFrame, settings: Collection[str] = ()) -> pd.DataFrame:
    """One row for each run, with the columns of the tables; NaN if a run is not done, or did not measure a number.

    `settings` names further columns of `runs_of` to include.
    """
    cells, runs = Cells(frame), runs_of(frame, settings)
    table = runs[[*RUN, *(name for name in settings if name not in RUN)]].copy()

    def change(metric: str) -> pd.Series[float]:
        return cells.number(metric, subject="hybrid") - cells.number(metric, subject="student")

    table["prompts_judged"] = cells.number("dsr", "n", subject="hybrid")
    for name in ("rows_named", "rows_left_out"):
        table[f"report_{name}"] = cells.number(name, key="report")
    for subject in SUBJECTS:
        for end, part in PARTS.items():
            table[f"{subject}_dsr{end}"] = cells.number("dsr", part, subject=subject)
        judged = cells.number("outcome", "n", subject=subject, key="failed")
        for name in ("retracted", "degenerate", "failed"):
            table[f"{subject}_{name}"] = cells.number("outcome", subject=subject, key=name) / judged
    table["gain_points"] = 100 * change("dsr")
    table["p_value"] = cells.number("dsr_p", subject="hybrid", against="student")
    table["status"] = cells.text("status")
    table["stopped_by"] = cells.text("stopped_by")
    table["served_students"] = cells.text("served_students")
    # without a gain, the bar is near the student's own DSR, so reaching it means nothing
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
    table["random_found_dsr"] = cells.number("random_found_dsr", subject="hybrid")
    table["random_p"] = cells.number("random_p", subject="random")
    table["random_draws"] = cells.number("random_dsr", "n", subject="random").fillna(0).where(table["state"] == "done")
    table["confirm_error_rate"] = cells.number("confirm_error_rate", subject="hybrid")
    table["confirm_set"] = cells.text("confirm_set", subject="hybrid")
    table["confirm_units"] = cells.number("confirm_units", subject="hybrid")
    table["confirm_of"] = cells.number("confirm_units", "n", subject="hybrid")
    table["units"] = _units(frame, table)
    table["units_found"] = cells.number("units_found")
    table["units_total"] = cells.number("units_total")
    table["parameters_changed_percent"] = cells.number("parameters_changed_percent")
    table["parameters_percent"] = cells.number("parameters_moved_percent")
    table["student_share"] = cells.number("student_share")
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
    """Whether all units together reach the share of the teacher's gain that the search demands; None if not done."""
    student, teacher = table["student_search_dsr"], table["teacher_search_dsr"]
    enough = table["everything_search_dsr"] >= student + table["threshold"] * (teacher - student) - ROUNDING
    return enough.astype("object").where(table["everything_search_dsr"].notna())


def _units(frame: pd.DataFrame, table: pd.DataFrame) -> pd.Series[str]:
    """The names of the units that each run found; None if a run is not done."""
    names: dict[str, list[str]] = {identity: [] for identity in table.loc[table["state"] == "done", "identity"]}
    rows = frame.loc[frame["metric"] == "unit", ["identity", "key"]].astype("object")
    for identity, unit in rows.itertuples(index=False):
        names[identity].append(unit)
    joined = [" ".join(names[identity]) if identity in names else None for identity in table["identity"]]
    return pd.Series(joined, table.index, dtype="object")


def holm(p_values: pd.Series[float]) -> pd.Series[float]:
    """The p-values with Holm's correction over all of them. Unknown ones do not count, and stay unknown."""
    known = p_values.dropna().sort_values(kind="stable")
    return (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1.0).reindex(p_values.index)


def with_holm(numbers: pd.DataFrame, tests: Sequence[str]) -> pd.DataFrame:
    """The numbers with a column NAME_holm for each column of p-values, corrected over all of these columns together."""
    corrected = holm(pd.concat({test: numbers[test] for test in tests}))
    return numbers.assign(**{f"{test}_holm": corrected[test] for test in tests})


@cache
def power(n: int, level: float) -> float | None:
    """The smallest gain in points, without losses, that the exact McNemar test finds on n rows with 80 % power.

    `level` is the test's significance level. None if no gain is large enough.
    """
    gain = detectable_gain(0.0, n, level)
    return None if gain is None else 100 * gain


def detectable_points(measured: pd.DataFrame, tests: int = 1) -> pd.Series[float]:
    """`power` of each run's test against its student, at Holm's first step of `tests` tests; NaN if there is none."""
    tested = measured[measured["p_value"].notna()]
    found = [power(int(n), LEVEL / tests) for n in tested["prompts_judged"]]
    points = pd.Series(found, index=tested.index, dtype="float64")
    return points.where(points <= 100 * (1 - tested["student_dsr"]))


def settings_that_vary(runs: pd.DataFrame) -> list[str]:
    """The settings, besides the pair, in which runs differ."""
    return [name for name in ("experiment", "granularity", "search", "dataset") if runs[name].nunique() > 1]


def settings_that_tell_apart(runs: pd.DataFrame) -> list[str]:
    """The settings that vary, and further config keys until all runs of a pair differ in some of them.

    If no keys suffice, the start of the identity is added.
    """
    names = settings_that_vary(runs)
    config = [name for name in map(str, runs) if name not in RUN]
    begun = runs[(runs[config] != "").any(axis=1)] if config else runs  # without unstarted runs
    alike = _alike(begun, names)
    for key in config:
        if alike and begun[key].nunique() > 1 and runs[key].str.len().max() <= LONGEST_SETTING:
            fewer = _alike(begun, [*names, key])
            names, alike = ([*names, key], fewer) if fewer < alike else (names, alike)
    return [*names, "run"] if alike else names


def settings_besides_draws(runs: pd.DataFrame) -> list[str]:
    """`settings_that_tell_apart` without seeds and identity, which only tell repeated draws apart."""
    return [name for name in settings_that_tell_apart(runs) if name != "run" and not name.endswith("seed")]


def _alike(runs: pd.DataFrame, settings: list[str]) -> int:
    """How many runs repeat the pair and the settings of an earlier run."""
    return int(runs[["pair", *settings]].duplicated().sum())


def done_of(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The rows of the finished runs, or, with `metric`, of the finished runs that measured it."""
    done = frame[frame["state"] == "done"]
    return done if metric is None else done[done["identity"].isin(done.loc[done["metric"] == metric, "identity"])]


def by_settings(done: pd.DataFrame) -> tuple[list[str], list[tuple[dict[str, str], pd.DataFrame]]]:
    """The settings in which runs differ, and for each combination of values: the values, and the runs with them."""
    runs = runs_of(done)
    names = settings_that_tell_apart(runs)
    groups = (group for _, group in runs.groupby(names, sort=False)) if names else [runs]
    return names, [
        ({name: str(group[name].iloc[0]) for name in names}, done[done["identity"].isin(group["identity"])])
        for group in groups
    ]


def mean_bounds(values: pd.Series[float], teachers: pd.Series[str], error: float = 0.0) -> tuple[float, float]:
    """The 95 % interval of a mean over runs, with the pairs of a teacher as one group; NaN for fewer than two values.

    The bounds are clipped to what is `possible` for a column of that name. `error` is the part of the mean's standard
    error that comes from the runs' rows (`row_error`).
    """
    known = values.notna()
    if known.sum() < 2 or (not error and values.max() - values.min() < ROUNDING):
        return NAN, NAN
    found = mean_over_groups(values[known].tolist(), teachers[known].tolist(), error)
    if found.low is None or found.high is None:
        return NAN, NAN
    least, most = possible(str(values.name))
    return max(least, found.low), min(most, found.high)


def possible(name: str) -> tuple[float, float]:
    """The least and the largest value that a number in this column can have."""
    if name.endswith("_points"):
        return -100.0, 100.0
    if name.endswith("_percent"):
        return 0.0, 100.0
    if name.endswith(("_dsr", "_over_refusal")):
        return 0.0, 1.0
    return (0.0 if name in NOT_NEGATIVE else -INFINITY), INFINITY


def mean_dsr_bounds(measured: pd.DataFrame, subject: str = "hybrid") -> tuple[float, float]:
    """`mean_bounds` of a DSR, within 0 to 1."""
    known = measured[measured[f"{subject}_dsr"].notna()]
    return mean_bounds(known[f"{subject}_dsr"], known["teacher"], row_error(known, f"{subject}_dsr_"))


def row_error(known: pd.DataFrame, of: str = "hybrid_dsr_") -> float:
    """The part of a mean's standard error that comes from the rows, from each number's own interval.

    `of` is the beginning of the names of the interval's columns.
    """
    half = (known[f"{of}high"] - known[f"{of}low"]) / (2 * Z)
    return float((half**2).sum() ** 0.5 / max(1, len(known)))


def mean_change(frame: pd.DataFrame, metric: str) -> Measure | None:
    """The mean change from student to hybrid over the runs that measured it; None if none did. Shares become points.

    The interval takes the pairs of a teacher as one group, and is never narrower than the runs' own rows allow. If
    records have no paired interval, the two models count as independent samples, which makes the interval wider.
    """
    changes = _changes(frame, metric)
    if changes.empty:
        return None
    scale = 1 if metric == "perplexity" else 100
    values, low, high = (scale * changes[part] for part in ("value", "low", "high"))
    if len(changes) == 1:
        bounds = (None if pd.isna(bound.iloc[0]) else float(bound.iloc[0]) for bound in (low, high))
        return Measure(value=float(values.iloc[0]), n=1, **dict(zip(("low", "high"), bounds, strict=True)))
    variance = ((high - low) / (2 * Z)) ** 2
    floor = float(variance.fillna(variance.mean()).sum() ** 0.5) / len(changes)
    found = difference_over_groups(values.tolist(), changes["teacher"].tolist(), floor).difference
    if metric == "perplexity" or found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(-100.0, found.low), "high": min(100.0, found.high)})


def _changes(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The change from student to hybrid in each run that measured it: value, low, high, teacher."""
    rows = frame[frame["headline"] & frame["value"].notna()]
    paired = rows[(rows["metric"] == f"{metric}_change") & (rows["against"] == "student")]
    if len(paired):
        return paired[["value", "low", "high", "teacher"]]
    of = {s: rows[(rows["metric"] == metric) & (rows["subject"] == s)].set_index("identity") for s in SUBJECTS}
    hybrid, student = of["hybrid"].align(of["student"], join="inner", axis=0)
    value = hybrid["value"] - student["value"]
    half = (((hybrid["high"] - hybrid["low"]) ** 2 + (student["high"] - student["low"]) ** 2) ** 0.5) / 2
    return pd.DataFrame({"value": value, "low": value - half, "high": value + half, "teacher": hybrid["teacher"]})


def numbers_of(measured: pd.DataFrame) -> pd.DataFrame:
    """The columns that are averaged. The numbers of a found set are NaN in runs that found none."""
    numbers = measured[MEANED].copy()
    numbers.loc[measured["status"] == "no_gain", OF_A_FOUND_SET] = NAN
    return numbers
