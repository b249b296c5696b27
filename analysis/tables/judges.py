"""The judges' tables: the defence of every harmful prompt set as each judge sees it, and how far judges agree."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from analysis.measures import SUBJECTS, by_settings, mean_of, of_one_run
from analysis.tables.cells import decimal, interval, number, percent
from analysis.tables.table import Table, new_blocks

_DSR = re.compile(r"evaluate/hybrid/defence/(?P<rows>[^/]+)/(?P<judge>.+)/dsr/n")
_AGREEMENT = re.compile(r"evaluate/agreement/(?P<one>.+)\+(?P<other>.+)/agreement/n")


def has_judges(runs: pd.DataFrame) -> bool:
    """Whether any run has more than the one judge, or the one prompt set, of the main table."""
    return len(_matches(runs, _DSR)) > 1


def has_agreement(runs: pd.DataFrame) -> bool:
    """Whether any run was scored by two judges."""
    return bool(_matches(runs, _AGREEMENT))


def judges_table(runs: pd.DataFrame) -> Table:
    """A row a harmful prompt set, judge (and setting that varies): the DSRs of a single run, or means over runs."""
    done = runs[runs["state"] == "done"]
    settings, groups = by_settings(done)
    rows = [keys | row for keys, group in groups for row in _judged(group)]
    numbers = pd.DataFrame(rows)
    single = len(done) == 1
    return Table(
        name="judges",
        title="Defense success rate by prompt set and judge",
        caption="In percent"
        + (", the hybrid's with its 95 % interval." if single else ", means over the n runs that have it.")
        + " Failed: verdicts that are missing, of all three models.",
        display=pd.DataFrame([_print(row, settings, single) for row in rows]),
        numbers=numbers,
        labels=2 + len(settings),
        rules=new_blocks(numbers, settings),
    )


def agreement_table(runs: pd.DataFrame) -> Table:
    """A row a pair of judges (and setting that varies): how far they agree, mean over the runs that both scored."""
    settings, groups = by_settings(runs[runs["state"] == "done"])
    numbers = pd.DataFrame([keys | row for keys, group in groups for row in _agreed(group)])
    display = pd.DataFrame(
        {
            "judge": numbers["one"],
            "other judge": numbers["other"],
            **{name: numbers[name] for name in settings},
            "agreement (%)": numbers["agreement"].map(percent),
            "Cohen's kappa": numbers["kappa"].map(lambda kappa: decimal(kappa, 3)),
            "completions": numbers["completions"].map(number),
            "runs": numbers["n"].map(number),
        }
    )
    return Table(
        name="agreement",
        title="Agreement between judges",
        caption="On defended or not, over all models' answers to harmful prompts that both judged; means over runs.",
        display=display,
        numbers=numbers,
        labels=2 + len(settings),
        rules=new_blocks(numbers, settings),
    )


def _judged(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    for found in _matches(group, _DSR):
        names, path = found.groupdict(), f"defence/{found['rows']}/{found['judge']}"
        mean = {s: mean_of(group, f"evaluate/{s}/{path}/dsr/value") for s in SUBJECTS}
        alone = of_one_run(group)
        bounds = {f"hybrid_{part}": mean_of(alone, f"evaluate/hybrid/{path}/dsr/{part}") for part in ("low", "high")}
        failed = sum(_sum(group, f"evaluate/{s}/{path}/outcomes/failed") for s in SUBJECTS)
        yield {**names, **mean, **bounds, "failed": failed, "n": _runs_with(group, f"evaluate/hybrid/{path}/dsr/value")}


def _agreed(group: pd.DataFrame) -> Iterator[dict[str, object]]:
    for found in _matches(group, _AGREEMENT):
        path = found[0].removesuffix("/agreement/n")
        yield {
            **found.groupdict(),
            "agreement": mean_of(group, f"{path}/agreement/value"),
            "kappa": mean_of(group, f"{path}/kappa"),
            "completions": int(_sum(group, found[0])),
            "n": _runs_with(group, f"{path}/agreement/value"),
        }


def _matches(runs: pd.DataFrame, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """The columns of that name that hold anything."""
    columns = [str(column) for column in runs.columns if runs[column].notna().any()]
    return [found for column in columns if (found := pattern.fullmatch(column))]


def _sum(runs: pd.DataFrame, column: str) -> float:
    return float(pd.to_numeric(runs[column]).sum()) if column in runs else 0.0


def _runs_with(runs: pd.DataFrame, column: str) -> int:
    """How many runs have a value there."""
    return int(runs[column].notna().sum())


def _print(row: dict[str, object], settings: list[str], single: bool) -> dict[str, str]:
    shares = {name: float(row[name]) for name in (*SUBJECTS, "hybrid_low", "hybrid_high")}  # type: ignore[arg-type]
    cells = {"prompts": str(row["rows"]), "judge": str(row["judge"])} | {name: str(row[name]) for name in settings}
    cells |= {subject: percent(shares[subject]) for subject in SUBJECTS}
    if single:
        cells["hybrid"] = interval(shares["hybrid"], shares["hybrid_low"], shares["hybrid_high"])
    return cells | {"failed": f"{row['failed']:.0f}"} | ({} if single else {"n": str(row["n"])})
