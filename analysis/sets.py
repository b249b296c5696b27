"""Sets that a search found on one student, transplanted into other students of the same teacher."""

from __future__ import annotations

import pandas as pd

from analysis.measures import done_of, measure
from dapa_exp.record.measure import ROUNDING

UNION = "all of them together"
"""The set with every unit that was found on any of the students."""
COLUMNS = [
    *("teacher", "granularity", "dataset", "found_on", "pair", "passes", "queries", "units_found", "units_total"),
    *("made_here", "hybrid_dsr", "hybrid_dsr_low", "hybrid_dsr_high", "hybrid_over_refusal"),
]


def shared_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each found set and each student that it was transplanted into, of one teacher and granularity.

    `found_on` names the students on which a search found exactly this set; `queries` is what the search on the first
    of them took. A set that one search found for several students has a row of its own. `passes` says whether the set
    reaches the student's own bar. Empty if no found set was given to another student.
    """
    runs = measure(done_of(frame))
    runs = runs[runs["units"].notna() & (runs["status"] != "no_gain")]
    runs = runs.assign(set=runs["units"].map(_named))
    runs["passes"] = runs["hybrid_search_dsr"] >= runs["bar"] - ROUNDING
    found = [
        _of_teacher(runs)
        for _, runs in runs.groupby(["teacher", "granularity", "dataset"], sort=False)
        if (runs["status"] == "control").any() and (runs["status"] == "certified").sum() > 1
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _named(units: str) -> str:
    """A set of units as a text that does not depend on their order."""
    return " ".join(sorted(set(units.split())))


def _of_teacher(runs: pd.DataFrame) -> pd.DataFrame:
    certified = runs[runs["status"] == "certified"]
    searched = certified[certified["served_students"].isna()].drop_duplicates("pair")
    joint = certified[certified["served_students"].notna()]
    labels = searched.groupby("set", sort=False)["pair"].agg(", ".join).to_dict()
    for units, students in zip(joint["set"], joint["served_students"], strict=True):
        labels[units] = ", ".join(filter(None, (labels.get(units), f"one search for {students}")))
    labels.setdefault(_named(" ".join(searched["set"])), UNION)
    tried = runs[runs["set"].isin(list(labels)) & runs["pair"].isin(searched["pair"])]
    tried = tried.drop_duplicates(["pair", "set"]).copy()
    tried["found_on"] = tried["set"].map(labels)
    first = pd.concat([searched, joint]).drop_duplicates("set").set_index("set")
    tried["queries"] = tried["set"].map(first["queries"])
    order = {label: place for place, label in enumerate(labels.values())}
    return tried.sort_values(by="found_on", key=lambda name: name.map(order), kind="stable")[COLUMNS]
