"""The paper table: what the paper reports, beside our means. A cell is empty where the paper reports nothing known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.expected import Fact, paper
from analysis.measures import by_settings, done_of, mean_change, measure, numbers_of, possible
from analysis.registry import TABLES, TableMaker
from analysis.tables.cells import change, estimate, known
from analysis.tables.table import Table, new_blocks
from dapa_exp.evaluate.statistics import mean_over_groups
from dapa_exp.record.measure import Measure

MOST_SETTINGS = 8


class Runs(NamedTuple):
    """Finished runs: their numbers one by one, and a row of numbers for each run."""

    frame: pd.DataFrame
    measured: pd.DataFrame


@dataclass(frozen=True)
class Quantity:
    """A row: its heading, the paper's fact if there is one, and how our number is computed and printed."""

    heading: str
    fact: Fact | None
    ours: Callable[[Runs], Measure | None]
    show: Callable[[Measure], str]


def _column(name: str) -> Callable[[Runs], Measure | None]:
    return lambda runs: _mean(numbers_of(runs.measured)[name], runs.measured["teacher"])


def _run_seconds(runs: Runs) -> Measure | None:
    stages = runs.frame[runs.frame["metric"] == "cost_seconds"]
    seconds = stages.groupby(["identity", "teacher"], observed=True)["value"].sum()
    return _mean(*(seconds.rename("seconds").reset_index()[name] for name in ("seconds", "teacher")))


def _mean(values: pd.Series[float], teachers: pd.Series[str]) -> Measure | None:
    values = values.dropna()
    if values.empty:
        return None
    found = mean_over_groups(values.tolist(), teachers[values.index].tolist())
    bounds = [bound and float(np.clip(bound, *possible(str(values.name)))) for bound in (found.low, found.high)]
    return found.model_copy(update=dict(zip(("low", "high"), bounds, strict=True)))


def _change(metric: str) -> Callable[[Runs], Measure | None]:
    return lambda runs: mean_change(runs.frame, metric)


def _largest(runs: Runs) -> Measure | None:
    gains = runs.measured["gain_points"].dropna()
    return Measure(value=gains.max(), n=len(gains)) if len(gains) else None


def _signed(digits: int) -> Callable[[Measure], str]:
    return lambda found: change(found.value, found.low, found.high, digits)


def _plain(digits: int) -> Callable[[Measure], str]:
    return lambda found: estimate(found.value, found.low, found.high, digits)


def _quantities() -> list[Quantity]:
    mean, largest, cost = paper().mean, paper().largest, paper().cost
    return [
        Quantity("gain in DSR (points)", mean.get("gain_points"), _change("dsr"), _signed(2)),
        Quantity("largest gain in DSR (points)", largest.get("gain_points"), _largest, _signed(2)),
        Quantity("parameters moved (%)", mean.get("parameters_percent"), _column("parameters_percent"), _plain(2)),
        Quantity("perplexity change", mean.get("perplexity_change"), _change("perplexity"), _signed(2)),
        Quantity("reasoning change (points)", mean.get("reasoning_change_points"), _change("reasoning"), _signed(2)),
        Quantity("over-refusal change (points)", None, _change("over_refusal"), _signed(2)),
        Quantity("search queries", None, _column("queries"), _plain(1)),
        Quantity("time of the search (seconds)", None, _column("seconds"), _plain(1)),
        Quantity("time of a run, all stages (seconds)", cost.get("run_seconds"), _run_seconds, _plain(1)),
    ]


def has_means(frame: pd.DataFrame) -> bool:
    """Whether there are several runs, so that a mean can stand beside the paper's, and few combinations of settings."""
    done = done_of(frame)
    return done["identity"].nunique() > 1 and len(by_settings(done)[1]) <= MOST_SETTINGS


def paper_table(frame: pd.DataFrame) -> Table:
    """A table with a row for each quantity and setting that varies: our mean, and what the paper reports."""
    done = done_of(frame)
    settings, groups = by_settings(done)
    facts = [quantity.fact for quantity in _quantities() if quantity.fact]
    found = [(keys, Runs(group, measure(group))) for keys, group in groups]
    numbers = pd.DataFrame([_row(quantity, runs) | keys for keys, runs in found for quantity in _quantities()])
    reported = [quantity.fact for quantity in _quantities()] * len(groups)
    display = pd.DataFrame(
        {
            "mean over runs": numbers["quantity"],
            **{name: numbers[name] for name in settings},
            "ours [95 %]": numbers["shown"],
            "runs": numbers["n"].astype(str),
            f"the paper, {paper().models} real models": [
                f"{fact.shown} [{facts.index(fact) + 1}]" if fact else "" for fact in reported
            ],
        }
    )
    made_here = " Our models were made here: no evidence about real ones." if done["made_here"].any() else ""
    return Table(
        name="paper",
        title="The paper's reported numbers beside ours",
        caption=f"The paper: {paper().paper}. Empty: it is not known what the paper reports. The paper reports no"
        f" intervals. Ours: means over runs, intervals over teachers.{made_here}",
        display=display,
        numbers=numbers.drop(columns="shown"),
        labels=1 + len(settings),
        rules=new_blocks(numbers, settings) if settings else [],
        notes=[f"[{i}] {fact.source}" for i, fact in enumerate(facts, start=1)],
    )


def _row(quantity: Quantity, runs: Runs) -> dict[str, object]:
    found, fact = quantity.ours(runs), quantity.fact
    return {
        "quantity": quantity.heading,
        "ours": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "n": found.n if found else 0,
        "shown": quantity.show(found) if found and known(found.value) else "–",
        "paper": fact and fact.value,
        "source": fact.source if fact else "",
    }


TABLES.register("paper", TableMaker(25, has_means, paper_table))
