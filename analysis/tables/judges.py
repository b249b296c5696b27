"""The judges' tables: the defence of every harmful prompt set as each judge sees it, and how far judges agree."""

from __future__ import annotations

import re

import pandas as pd

from analysis.measures import SUBJECTS
from analysis.tables.cells import DASH, decimal, interval, known, number, percent
from analysis.tables.table import Table

_DSR = re.compile(r"evaluate/hybrid/defence/(?P<rows>[^/]+)/(?P<judge>.+)/dsr/value")
_AGREEMENT = re.compile(r"evaluate/agreement/(?P<one>.+)\+(?P<other>.+)/agreement/value")


def has_judges(runs: pd.DataFrame) -> bool:
    """Whether any run has more than the one judge, or the one prompt set, of the main table."""
    return len(_matches(runs, _DSR)) > 1


def has_agreement(runs: pd.DataFrame) -> bool:
    """Whether any run was scored by two judges."""
    return bool(_matches(runs, _AGREEMENT))


def judges_table(runs: pd.DataFrame) -> Table:
    """A row a harmful prompt set and judge: the DSR of student, hybrid and teacher, mean over the runs that have it."""
    rows = []
    for found in _matches(runs, _DSR):
        names, path = found.groupdict(), f"defence/{found['rows']}/{found['judge']}"
        mean = {s: _mean(runs, f"evaluate/{s}/{path}/dsr/value") for s in SUBJECTS}
        bounds = {f"hybrid_{part}": _mean(runs, f"evaluate/hybrid/{path}/dsr/{part}") for part in ("low", "high")}
        failed = sum(_sum(runs, f"evaluate/{s}/{path}/outcomes/failed") for s in SUBJECTS)
        rows.append({**names, **mean, **bounds, "failed": failed, "n": int(runs[found[0]].notna().sum())})
    numbers = pd.DataFrame(rows)
    single = bool((numbers["n"] == 1).all())
    return Table(
        name="judges",
        title="Defense success rate by prompt set and judge",
        caption="In percent"
        + (", the hybrid's with its 95 % interval." if single else ", means over n runs.")
        + " Failed: verdicts that are missing, of all three models.",
        display=pd.DataFrame([_print(row, single) for row in rows]),
        numbers=numbers,
        labels=2,
    )


def agreement_table(runs: pd.DataFrame) -> Table:
    """A row a pair of judges: how far they agree on defended or not, mean over the runs that both scored."""
    rows = []
    for found in _matches(runs, _AGREEMENT):
        path = found[0].removesuffix("/agreement/value")
        rows.append(
            {
                **found.groupdict(),
                "agreement": _mean(runs, found[0]),
                "kappa": _mean(runs, f"{path}/kappa"),
                "completions": int(_sum(runs, f"{path}/agreement/n")),
                "n": int(runs[found[0]].notna().sum()),
            }
        )
    numbers = pd.DataFrame(rows)
    display = pd.DataFrame(
        {
            "judge": numbers["one"],
            "other judge": numbers["other"],
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
        labels=2,
    )


def _matches(runs: pd.DataFrame, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """The columns of that name that hold anything."""
    columns = [str(column) for column in runs.columns if runs[column].notna().any()]
    return [found for column in columns if (found := pattern.fullmatch(column))]


def _mean(runs: pd.DataFrame, column: str) -> float:
    return float(pd.to_numeric(runs[column]).mean()) if column in runs else float("nan")


def _sum(runs: pd.DataFrame, column: str) -> float:
    return float(pd.to_numeric(runs[column]).sum()) if column in runs else 0.0


def _print(row: dict[str, object], single: bool) -> dict[str, str]:
    shares = {name: float(row[name]) for name in (*SUBJECTS, "hybrid_low", "hybrid_high")}  # type: ignore[arg-type]
    cells = {"prompts": str(row["rows"]), "judge": str(row["judge"])}
    cells |= {subject: percent(shares[subject]) if known(shares[subject]) else DASH for subject in SUBJECTS}
    if single:
        cells["hybrid"] = interval(shares["hybrid"], shares["hybrid_low"], shares["hybrid_high"])
    return cells | {"failed": f"{row['failed']:.0f}"} | ({} if single else {"n": str(row["n"])})
