"""Compares granularities, which say what part of a layer is one unit, over the pairs that all of them have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from analysis.entries import NAN
from analysis.measures import holm, mean_dsr_bounds, measure, numbers_of, row_error, runs_of, settings_that_tell_apart
from dapa_exp.evaluate.statistics import difference_over_groups

ORDER = ["gate_proj", "up_proj", "down_proj", "projection", "mlp", "attention", "layer"]
ALL = "all"
"""The label of the block with all pairs."""
DSR = ("hybrid_dsr", "hybrid_dsr_low", "hybrid_dsr_high")
MEANS = (
    *("student_dsr", "hybrid_dsr", "teacher_dsr", "gain_points"),
    *("units_found", "units_total", "parameters_percent"),
)

By = Literal["family", "pair"]
Run = dict[Any, Any]
Pairs = dict[str, list[Run]]
"""The finished runs of one granularity, by pair."""


def in_order(granularities: Iterable[str]) -> list[str]:
    """The granularities in the order of the tables: the paper's projections, then larger parts, then others by name."""
    return sorted(granularities, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def settings_apart(frame: pd.DataFrame) -> list[str]:
    """The settings, besides the granularity, in which the runs of a pair differ."""
    names = settings_that_tell_apart(runs_of(frame))
    return [name for name in names if name not in ("experiment", "granularity", "run")]


def compare_granularities(frame: pd.DataFrame, by: By) -> pd.DataFrame:
    """A row for each block and granularity: the means of the hybrids over the pairs that all granularities have.

    A block is a family of several pairs, then all pairs (its label is "all"), or it is a single pair; for each setting
    that varies. Its first granularity is the `reference`, from which the others differ by `difference_points`, with an
    interval and a paired test. `p_holm` is corrected over all of the rows.
    """
    apart = settings_apart(frame)
    blocks = _blocks(measure(frame, apart), by, apart)
    rows = [{by: label, **setting, **cell} for label, setting, runs in blocks for cell in _cells(runs)]
    return _with_holm(pd.DataFrame(rows))


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each two granularities and other setting: the paired difference over the pairs that both have."""
    apart, rows = settings_apart(frame), []
    for setting, runs in _by_setting(measure(frame, apart), apart):
        pairs = _finished(runs)
        for one, other in combinations(in_order(pairs), 2):
            both = [pair for pair in pairs[one] if pair in pairs[other]]
            if len(both) > 1:
                ours, theirs = (_by_pair(pairs[name], both) for name in (one, other))
                dsrs = {"dsr": ours["hybrid_dsr"].mean(), "other_dsr": theirs["hybrid_dsr"].mean()}
                counted = {"pairs": len(both), "teachers": ours["teacher"].nunique()}
                rows.append(
                    {"granularity": one, "other": other, **setting, **dsrs, **_difference(ours, theirs), **counted}
                )
    named = {"difference_low": "low", "difference_high": "high"}
    return _with_holm(pd.DataFrame(rows)).rename(columns=named)


def _with_holm(numbers: pd.DataFrame) -> pd.DataFrame:
    return numbers if numbers.empty else numbers.assign(p_holm=holm(numbers["p_value"]))


def _by_setting(measured: pd.DataFrame, apart: list[str]) -> Iterator[tuple[dict[str, str], list[Run]]]:
    """Yields the runs with each combination of the settings. Numbers of a found set are NaN if none was found."""
    measured = measured[measured["granularity"] != ""]  # of a damaged run, it is not known
    measured = measured.assign(**numbers_of(measured)[list(MEANS)])
    for _, runs in measured.groupby(apart, sort=False) if apart else [((), measured)]:
        yield {name: str(runs[name].iloc[0]) for name in apart}, runs.to_dict("records")


def _blocks(measured: pd.DataFrame, by: By, apart: list[str]) -> Iterator[tuple[str, dict[str, str], list[Run]]]:
    """Yields label, settings and runs of each block. A family of one pair has no block: there is no mean of one run."""
    blocks: dict[str, list[tuple[dict[str, str], list[Run]]]] = defaultdict(list)
    whole = list(_by_setting(measured, apart))
    for setting, runs in whole:
        for label, group in _grouped(runs, by).items():
            if by == "pair" or len({run["pair"] for run in group}) > 1:
                blocks[label].append((setting, group))
    if by == "family" and (measured["family"].nunique() > 1 or not blocks):
        blocks[ALL] = whole
    for label, found in blocks.items():
        for setting, group in found:
            yield label, setting, group


def _cells(runs: list[Run]) -> Iterator[dict[str, Any]]:
    """Yields the row of each granularity of a block."""
    finished = _finished(runs)
    shared = [pair for pair in _grouped(runs, "pair") if finished and all(pair in of for of in finished.values())]
    asked, every = _grouped(runs, "granularity"), len(_grouped(runs, "pair"))
    reference = in_order(finished)[0] if finished else ""
    for granularity in in_order(asked):
        pairs = finished.get(granularity, {})
        yield {
            "granularity": granularity,
            "asked": len(_grouped(asked[granularity], "pair")),
            "pairs": every,
            **_means({pair: pairs[pair] for pair in shared if pair in pairs}),
            "reference": reference,
            **_against(finished, reference, granularity, shared),
            **_unfinished(asked[granularity]),
        }


def _means(pairs: Pairs) -> dict[str, Any]:
    """The means of the runs' numbers, with each pair counted once, and the interval of the mean DSR."""
    runs = [run for of_pair in pairs.values() for run in of_pair]
    low, high = NAN, NAN
    if len(runs) == 1:
        low, high = runs[0]["hybrid_dsr_low"], runs[0]["hybrid_dsr_high"]
    elif runs:
        low, high = mean_dsr_bounds(_by_pair(pairs, pairs))
    return {
        "n": len(pairs),
        "runs": len(runs),
        "no_gain": sum(run["status"] == "no_gain" for run in runs),
        **{name: _mean(_mean(run[name] for run in of_pair) for of_pair in pairs.values()) for name in MEANS},
        "low": low,
        "high": high,
    }


def _against(finished: dict[str, Pairs], reference: str, granularity: str, shared: list[str]) -> dict[str, Any]:
    if granularity == reference or granularity not in finished or len(shared) < 2:
        return dict.fromkeys(("difference_points", "difference_low", "difference_high", "p_value"), NAN)
    return _difference(*(_by_pair(finished[name], shared) for name in (granularity, reference)))


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    floor = (row_error(ours) ** 2 + row_error(theirs) ** 2) ** 0.5
    difference = ours["hybrid_dsr"] - theirs["hybrid_dsr"]
    found, p = difference_over_groups(difference.tolist(), ours["teacher"].tolist(), floor)
    low, high = (NAN if bound is None else 100 * min(1.0, max(-1.0, bound)) for bound in (found.low, found.high))
    named = {"difference_points": 100 * found.value, "difference_low": low, "difference_high": high}
    return {**named, "p_value": NAN if p is None else p}


def _unfinished(runs: list[Run]) -> dict[str, str]:
    left = [run for run in runs if run["state"] != "done"]
    return {
        "states": ", ".join(dict.fromkeys(run["state"] for run in left)),
        "missing": "; ".join(f"{run['pair']} {run['state']} ({run['reason']})" for run in left),
    }


def _finished(runs: list[Run]) -> dict[str, Pairs]:
    """The finished runs by granularity, then by pair."""
    done = [run for run in runs if run["state"] == "done" and run["hybrid_dsr"] == run["hybrid_dsr"]]
    return {name: _grouped(group, "pair") for name, group in _grouped(done, "granularity").items()}


def _by_pair(runs: Pairs, pairs: Iterable[str]) -> pd.DataFrame:
    """One row for each of these pairs: its run, or the mean of its runs."""
    teachers = {"teacher": [runs[pair][0]["teacher"] for pair in pairs]}
    return pd.DataFrame(teachers | {name: [_mean(run[name] for run in runs[pair]) for pair in pairs] for name in DSR})


def _grouped(runs: Iterable[Run], key: str) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run[key]].append(run)
    return dict(groups)


def _mean(values: Iterable[float]) -> float:
    """The mean of the values that are known; NaN without any."""
    known = [value for value in values if value == value]
    return fmean(known) if known else NAN
