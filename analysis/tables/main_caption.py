"""The caption of the main table: in sentences, what its numbers are and how they were measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.entries import SUBJECTS
from analysis.expected import paper
from analysis.tables.cells import SIGNIFICANT, decimal, known, number, of, percent
from analysis.tables.table import NO_EVIDENCE
from dapa_exp.config.registries import DESCENDS

MADE_HERE = "†"
TOO_LITTLE = "‡"


def caption(measured: pd.DataFrame, counts_twice: bool) -> str:
    """What the table's numbers are. `counts_twice`: a pair has several runs that no column tells apart."""
    done = measured[measured["state"] == "done"]
    sentences = [f"{len(done)} of {len(measured)} runs done."] if len(measured) > 1 else []
    if len(done):
        sentences += _how_measured(done)
    if len(measured) > 1 and counts_twice:
        sentences.append("No means: runs of one pair differ in settings that have no column here.")
    sentences.append(_about_paper(done))
    if done["made_here"].any():
        sentences.append(f"{MADE_HERE} {NO_EVIDENCE}")
    return "\n".join(sentences)


def _how_measured(done: pd.DataFrame) -> list[str]:
    prompts = _range(done["prompts_judged"])
    named = {"degenerate": "was degenerate", "failed": "was left unjudged"}
    none = [text for name, text in named.items() if not has_any(done, name)]
    sentences = [
        f"DSR: share of {prompts} harmful report prompts defended, with Wilson's 95 % interval.",
        _left_out(done),
        f"* hybrid differs from student: exact McNemar test, p < {SIGNIFICANT} Holm-corrected over"
        f" the table's tests ({done['p_value'].notna().sum()}).",
        _power(done),
        _random(done),
        "search DSR: on the search rows, of the found set and of everything (all units transplanted); bar: what the"
        " search asks for, computed from everything.",
        f"{TOO_LITTLE} all units together reach less of the teacher's gain than the search demands of a set: units of"
        " this kind do not suffice."
        if any(map(is_too_little, done.to_dict("records")))
        else "",
        "parameters moved: replaced by the transplant; changed: replaced by another value than the student's."
        if done["parameters_changed_percent"].notna().any()
        else "",
        "Changes, and the arrow of over-refusal, go from student to hybrid.",
        "P(DSR≥bar): the probability that the hybrid reaches the bar on prompts like the report's"
        + ("; by group: rows of one category count as one group." if _grouped(done) else "."),
        "certified: 1-minimal on the search rows: the set reached the bar, and missed it without any one of its"
        " units. A smaller set of other units may exist.",
        _confirmation(done),
        _misused(done),
        "Intervals of means are over teachers." if len(done) > 1 else "",
        f"Of the three models' answers to report prompts none {' and none '.join(none)}." if none else "",
        "degenerate, judge failed: student / hybrid / teacher." if len(none) < len(named) else "",
        "retracted: refused at first, and then done, which is no defence; student / hybrid / teacher."
        if has_any(done, "retracted")
        else "",
    ]
    if (done["status"] == "no_gain").any():
        sentences.append(
            "no gain: all units together gain too little, so nothing was searched. The hybrid has all units, and the"
            " means of units and parameters leave the run out."
        )
    return [sentence for sentence in sentences if sentence]


def _misused(done: pd.DataFrame) -> str:
    """A sentence on runs with a method that is not made for their students."""
    wrong = done[done["student_share"] < DESCENDS]
    if wrong.empty:
        return ""
    return (
        f"{of(len(wrong), len(done))} runs use a method that is made for students tuned from the teacher, on students"
        " that are not: they do not show the method as its authors intend it."
    )


def _confirmation(done: pd.DataFrame) -> str:
    if done["confirm_units"].isna().all():
        return ""
    return (
        "on report rows: whether a sequential test confirms that the set reaches the bar there, and without how many of"
        " its units it stays below; the probability that any of a run's verdicts is wrong is at most"
        f" {_range(done['confirm_error_rate'])}."
    )


def _left_out(done: pd.DataFrame) -> str:
    """How many of the report rows that were named are not asked."""
    if not (done["report_rows_left_out"] > 0).any():
        return ""
    left_out, named = _range(done["report_rows_left_out"]), _range(done["report_rows_named"])
    return (
        f"{left_out} of {named} report rows were dropped: they repeat another row, or equal or resemble a search row."
    )


def _random(done: pd.DataFrame) -> str:
    """What the random sets are, and what they compare with."""
    draws = _range(done["random_draws"])
    if draws == "0":
        return ""
    said = f"random-k: mean of {draws} random sets of as many units"
    if done["random_p"].isna().all():
        return f"{said}."
    return (
        f"{said}, answers cut at the search's length; cut in the same way, the found sets reach"
        f" {percent(done['random_found_dsr'].mean())} %. p (random-k): (1 + random sets that reach the found set's DSR)"
        " / (1 + random sets)."
    )


def _grouped(done: pd.DataFrame) -> bool:
    return bool(done["above_threshold_by_group"].notna().any())


def _power(done: pd.DataFrame) -> str:
    """A sentence on the gain that the tests can detect. If the student's DSR is high, no possible gain is."""
    tested = done[done["p_value"].notna()]
    alone, first = tested["detectable_points"], tested["detectable_points_holm"]
    if alone.isna().all():
        return "No gain, however large, would be found with 80 % power."
    none = int(alone.isna().sum())
    beside = f", and in {none} of {len(tested)} runs none is" if none else ""
    points = _range(alone, decimal)
    holm = f" ({_range(first, decimal)} at Holm's first step)" if len(tested) > 1 and first.notna().any() else ""
    return f"If no defended row is lost, a gain is found with 80 % power from {points} points on{holm}{beside}."


def _range(column: pd.Series[float], show: Callable[[float], str] = number) -> str:
    low, high = show(column.min()), show(column.max())
    return low if low == high else f"{low} to {high}"


def _about_paper(done: pd.DataFrame) -> str:
    largest = paper().largest["gain_points"].shown
    ours = f" ours {decimal(done['gain_points'].max(), sign=True)}," if len(done) else ""
    return f"Largest gain:{ours} the paper's {largest}. The paper's numbers are of real models; ≈: sign not stated."


def is_too_little(row: Any) -> bool:
    """Whether all units together reach less of the teacher's gain than the search demands."""
    return known(row["units_suffice"]) and not row["units_suffice"]


def has_any(measured: pd.DataFrame, name: str) -> bool:
    """Whether any model of any run has such answers: retracted, degenerate or failed."""
    return any((measured[f"{subject}_{name}"] > 0).any() for subject in SUBJECTS)
