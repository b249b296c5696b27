"""The tables of a report (`report/*.csv`), from the records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tests.recompute import statistics as st
from tests.recompute.tally import Tally

SUBJECTS = ("student", "hybrid", "teacher")
OUTCOMES = ("retracted", "degenerate", "failed")
ROUNDING = 1e-9
FIRST_NUMBER = "prompts_judged"
LABELS = ("row", "n", "made_here", "label")
"""Columns of the main table that tell no runs apart."""
OF_A_FOUND_SET = ("units_found", "units_total", "parameters_changed_percent", "parameters_percent", "optimism_points")
COSTS = ("queries", "prompts", "tokens", "seconds")
BOUNDS = ("queries_low", "queries_high")
REFERENCE = "ddmin"
PAPER = Path(__file__).parents[2] / "analysis" / "expected" / "paper.yaml"

Record = dict[str, Any]


def check_tables(report: Path, records: list[Record], tally: Tally) -> None:
    """Compare every table that there is."""
    for name, check in CHECKS.items():
        if (file := report / f"{name}.csv").is_file():
            check(file, pd.read_csv(file), records, tally)


def _check_main(file: Path, table: pd.DataFrame, records: list[Record], tally: Tally) -> None:
    runs = _with_holm(pd.DataFrame([main_numbers(record) for record in records]))
    rows = table[table["row"] == "run"]
    _expect(tally, file, "runs", sorted(rows["identity"].astype(str)), sorted(runs["identity"]))
    runs.index = pd.Index(runs["identity"])
    for _, row in rows.iterrows():
        if row["identity"] in runs.index:
            _compare_row(tally, file, f"run {row['folder']}", row, runs.loc[row["identity"]].to_dict())
    for _, row in table[table["row"].isin(["mean", "family mean"])].iterrows():
        held = _same_settings(row, rows)
        name = " ".join(str(row[key]) for key in ("row", "family") if isinstance(row[key], str))
        _compare_row(tally, file, name, row, _means(runs.loc[held["identity"]]))
    for _, row in table[table["row"] == "paper"].iterrows():
        reported = yaml.safe_load(PAPER.read_text())
        ours = {name: fact["value"] for name, fact in reported["mean"].items()} | {"n": reported["models"]}
        _compare_row(tally, file, "paper", row, ours)


def _same_settings(row: pd.Series[Any], rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that a mean is of: those with its family and settings, which stand before the numbers."""
    keys = list(row.index)[: list(row.index).index(FIRST_NUMBER)]
    held = rows
    for key in [key for key in keys if key not in LABELS and pd.notna(row[key])]:
        held = held[held[key] == row[key]]
    return held


def main_numbers(record: Record) -> dict[str, Any]:
    """A run's row of the main table."""
    evaluate, search, moved = record["evaluate"], record["search"], record["transplant"]
    student, hybrid = evaluate["student"], evaluate["hybrid"]
    found: dict[str, Any] = {name: record[name] for name in ("identity", "experiment", "dataset")}
    found |= {"pair": record["pair"]["name"], "family": record["pair"]["family"], "state": "done", "n": 1}
    found |= {"teacher": _model_name(record["pair"]["teacher"]), "granularity": search["granularity"]}
    found |= {"search": _algorithm(record), "made_here": record["pair"]["made_here"]}
    for name in SUBJECTS:
        dsr, outcomes = evaluate[name]["dsr"], evaluate[name]["outcomes"]
        found |= {f"{name}_dsr": dsr["value"], f"{name}_dsr_low": dsr["low"], f"{name}_dsr_high": dsr["high"]}
        total = sum(outcomes.values())
        found |= {f"{name}_{outcome}": outcomes.get(outcome, 0) / total for outcome in OUTCOMES}
    report = record["provenance"]["rows"]["report"]
    gained = search["status"] != "no_gain"
    tested = gained and hybrid["dsr"]["n"] > 0
    against = {comparison["against"]: comparison for comparison in evaluate["comparisons"]}
    control = evaluate["random"]
    enough = search["student_dsr"] + search["threshold"] * (search["teacher_dsr"] - search["student_dsr"])
    found |= {
        "prompts_judged": hybrid["dsr"]["n"],
        "report_rows_named": report["named"],
        "report_rows_left_out": report["named"] - report["used"],
        "gain_points": 100 * (hybrid["dsr"]["value"] - student["dsr"]["value"]),
        "p_value": against["student"]["p_value"],
        "status": search["status"],
        "stopped_by": search["stopped_by"],
        "above_threshold": evaluate["above_threshold"] if tested else None,
        "above_threshold_by_group": evaluate["above_threshold_clusters"] if tested else None,
        "student_search_dsr": search["student_dsr"],
        "hybrid_search_dsr": search["found_dsr"],
        "teacher_search_dsr": search["teacher_dsr"],
        "everything_search_dsr": search["everything_dsr"],
        "bar": search["threshold_dsr"] if gained else None,
        "threshold": search["threshold"],
        "units_suffice": search["everything_dsr"] >= enough - ROUNDING,
        "optimism_points": 100 * (search["found_dsr"] - hybrid["dsr"]["value"]),
        "random_dsr": control["mean"],
        "random_found_dsr": _value(control.get("found_dsr")),
        "random_p": control.get("p_value"),
        "random_draws": sum(1 for each in control["dsr"] if each["n"]),
        **_confirmed(evaluate.get("confirmation")),
        "units": " ".join(search["units_found"]) or None,
        "units_found": len(search["units_found"]),
        "units_total": search["units_total"],
        "parameters_changed_percent": _percent(moved["differing"], moved["parameters_total"]),
        "parameters_percent": _percent(moved["parameters"], moved["parameters_total"]),
        "perplexity_change": _change(hybrid, student, "perplexity"),
        "reasoning_change_points": _change(hybrid, student, "reasoning", 100),
        "student_over_refusal": _value(student["over_refusal"]),
        "hybrid_over_refusal": _value(hybrid["over_refusal"]),
        "over_refusal_change_points": _change(hybrid, student, "over_refusal", 100),
        "sample_seed": search["sample_seed"],
        "non_monotone": search["non_monotone"],
        **{name: search["ledger"][name] for name in COSTS},
    }
    return found


def _confirmed(confirmation: Record | None) -> dict[str, Any]:
    """What was told of the found set, and of how many of its units that they are needed."""
    if confirmation is None:
        return {"confirm_error_rate": None, "confirm_set": None, "confirm_units": None, "confirm_of": None}
    of_set, *of_units = (claim["verdict"] for claim in confirmation["claims"])
    return {
        "confirm_error_rate": confirmation["error_rate"],
        "confirm_set": of_set,
        "confirm_units": of_units.count("confirmed"),
        "confirm_of": len(of_units),
    }


def _with_holm(runs: pd.DataFrame) -> pd.DataFrame:
    tested = runs["p_value"].notna()
    runs.loc[tested, "p_holm"] = st.holm(runs.loc[tested, "p_value"].tolist())
    for name, level in (("detectable_points", 0.05), ("detectable_points_holm", 0.05 / max(1, int(tested.sum())))):
        runs[name] = [
            _times(st.detectable_gain(share, int(n), level), 100)
            for share, n in zip(runs["student_dsr"], runs["prompts_judged"], strict=True)
        ]
    return runs


def _limits(name: str) -> tuple[float, float]:
    """Between what a number lies, by the unit at the end of its name."""
    if name.endswith("_points"):
        return -100.0, 100.0
    if name.endswith("_change"):
        return -math.inf, math.inf
    return 0.0, 100.0 if name.endswith("_percent") else 1.0 if name.endswith("_dsr") else math.inf


def _means(runs: pd.DataFrame) -> dict[str, Any]:
    """Each number's mean over the runs that have it, and how many have it; intervals of DSRs by teacher."""
    numbers = runs.copy()
    numbers.loc[numbers["status"] == "no_gain", list(OF_A_FOUND_SET)] = math.nan
    found: dict[str, Any] = {"n": len(runs)}
    for name in MEANED:
        values = pd.to_numeric(numbers[name]).dropna()
        found[name] = float(values.sum()) / len(values) if len(values) > 1 else None
        found[f"n_{name}"] = len(values)
        bounds = st.mean_over_teachers(values.tolist(), runs.loc[values.index, "teacher"].tolist())
        found |= dict(zip((f"{name}_low", f"{name}_high"), st.within(bounds, *_limits(name)), strict=True))
    for subject in SUBJECTS:
        known = runs[runs[f"{subject}_dsr"].notna()]
        half = (known[f"{subject}_dsr_high"] - known[f"{subject}_dsr_low"]) / (2 * st.Z)
        floor = math.sqrt(float(np.sum(half**2))) / len(known)
        bounds = st.mean_over_teachers(known[f"{subject}_dsr"].tolist(), known["teacher"].tolist(), floor)
        low, high = st.within_shares(bounds)
        found |= {f"{subject}_dsr_low": low, f"{subject}_dsr_high": high}
    return found


MEANED = (
    *(f"{subject}_{name}" for subject in SUBJECTS for name in ("dsr", *OUTCOMES)),
    *(
        "gain_points",
        "random_dsr",
        "random_found_dsr",
        "hybrid_search_dsr",
        "everything_search_dsr",
        "bar",
        *OF_A_FOUND_SET,
    ),
    *("perplexity_change", "reasoning_change_points", "student_over_refusal", "hybrid_over_refusal"),
    *("over_refusal_change_points", *COSTS),
)


def _check_comparisons(file: Path, table: pd.DataFrame, records: list[Record], tally: Tally) -> None:
    found: list[dict[str, Any]] = [row for against in ("student", "teacher") for row in _against(records, against)]
    tests = [(row, name) for row in found for name in ("dsr", "over_refusal", "perplexity") if known(row[f"{name}_p"])]
    for (row, name), corrected in zip(tests, st.holm([row[f"{name}_p"] for row, name in tests]), strict=True):
        row[f"{name}_p_holm"] = corrected
    _expect(tally, file, "rows", len(table), len(found))
    for (_, theirs), ours in zip(table.iterrows(), found, strict=False):
        _compare_row(tally, file, f"{theirs['pair']} against {theirs['against']}", theirs, ours)


def _against(records: list[Record], against: str) -> Iterator[dict[str, Any]]:
    kinds = {"dsr": ("comparisons", 100), "over_refusal": ("over_refusal_comparisons", 100)}
    for record in records:
        evaluate, row = record["evaluate"], {"pair": record["pair"]["name"], "against": against}
        for name, (key, scale) in (kinds | {"perplexity": ("perplexity_comparisons", 1)}).items():
            comparison = next((each for each in evaluate[key] if each["against"] == against), None)
            difference = comparison["difference"] if comparison else {}
            for part, column in (("value", "change"), ("low", "low"), ("high", "high")):
                row[f"{name}_{column}"] = _times(difference.get(part), scale)
            row[f"{name}_p"] = comparison["p_value"] if comparison else None
        comparison = next(each for each in evaluate["comparisons"] if each["against"] == against)
        clusters = comparison["clusters"] or {}
        row["rows"] = comparison["difference"]["n"]
        row |= {f"dsr_{part}_by_group": _times(clusters.get(part), 100) for part in ("low", "high")}
        row |= {"dsr_groups": clusters.get("groups"), "dsr_design_effect": clusters.get("design_effect")}
        yield row | {"dsr_p_by_group": clusters.get("p_value")}


def _check_utility(file: Path, table: pd.DataFrame, records: list[Record], tally: Tally) -> None:
    if len({record["pair"]["name"] for record in records}) < len(records):
        return  # its rows are by settings then
    for _, row in table.iterrows():
        read = _metric(str(row["metric"]))
        if read is None:
            continue
        ours: dict[str, Any] = {"n": 0}
        for subject in SUBJECTS:
            of = [(measure, record) for record in records if (measure := read(record["evaluate"][subject]))]
            measures = [measure for measure, _ in of]
            values = [measure["value"] for measure in measures]
            ours[subject] = math.fsum(values) / len(values) if values else None
            ours["n"] = max(ours["n"], len(values))
            if len(records) == 1:
                bounds = [(measures[0] if measures else {}).get(part) for part in ("low", "high")]
            else:
                means = st.mean_over_teachers(values, [_model_name(record["pair"]["teacher"]) for _, record in of])
                bounds = list(st.within(means, 0.0, 1.0 if "(%)" in str(row["metric"]) else math.inf))
            ours |= dict(zip((f"{subject}_low", f"{subject}_high"), bounds, strict=True))
        _compare_row(tally, file, str(row["metric"]), row, ours)


def _metric(heading: str) -> Callable[[dict[str, Any]], Any] | None:
    """How to read a row's metric of a subject, by the row's heading."""
    if heading.startswith("over-refusal"):
        rows, judge = heading.split(", ")[1].split("/")
        return lambda subject: subject["over_refusals"].get(rows, {}).get(judge)
    plain = {"perplexity": "perplexity", "word perplexity": "word_perplexity", "reasoning (%)": "reasoning"}
    if heading in plain:
        return lambda subject: subject[plain[heading]]
    if heading.startswith("KL from the"):
        key, temperature = f"kl_to_{heading.split(' ')[3].rstrip(',')}", heading.split("T = ")[1]
        return lambda subject: (subject[key] or {}).get(temperature)
    return lambda subject: subject["tasks"].get(heading)


def _check_search_cost(file: Path, table: pd.DataFrame, records: list[Record], tally: Tally) -> None:
    if set(table) - {"search", "runs", "n", "certified", *COSTS, *BOUNDS, *(f"ratio_{name}" for name in COSTS)}:
        return  # its rows are by further settings
    runs = pd.DataFrame([main_numbers(record) for record in records])
    by_pair = runs.groupby(["search", "pair"])[list(COSTS)].mean()
    for _, row in table.iterrows():
        held = runs[runs["search"] == row["search"]]
        ours: dict[str, Any] = {
            "runs": len(held),
            "n": len(held),
            "certified": int((held["status"] == "certified").sum()),
        }
        ours |= {name: math.fsum(held[name]) / len(held) for name in COSTS}
        bounds = st.within(st.mean_over_teachers(held["queries"].tolist(), held["teacher"].tolist()))
        ours |= dict(zip(BOUNDS, bounds, strict=True))
        if REFERENCE in set(runs["search"]) - {row["search"]}:
            one, other = by_pair.loc[row["search"]], by_pair.loc[REFERENCE]
            both = one.index.intersection(other.index)
            ours |= {f"ratio_{name}": one.loc[both, name].sum() / other.loc[both, name].sum() for name in COSTS}
        _compare_row(tally, file, str(row["search"]), row, ours)


def _check_agreement(file: Path, table: pd.DataFrame, records: list[Record], tally: Tally) -> None:
    for _, row in table.iterrows():
        model = row.get("model", "all")
        found = [
            each
            for record in records
            for each in (
                record["evaluate"]["agreement"]
                if model == "all"
                else record["evaluate"].get("agreement_by_model", {}).get(model, [])
            )
            if each["judges"] == [row["one"], row["other"]]
        ]
        kappas = [each["kappa"] for each in found if each["kappa"] is not None]
        ours = {
            "agreement": math.fsum(each["agreement"]["value"] for each in found) / len(found),
            "kappa": math.fsum(kappas) / len(kappas) if kappas else None,
            "completions": sum(each["agreement"]["n"] for each in found),
        }
        _compare_row(tally, file, f"{row['one']} {row['other']} {model}", row, ours)


CHECKS: dict[str, Callable[[Path, pd.DataFrame, list[Record], Tally], None]] = {
    "main": _check_main,
    "comparisons": _check_comparisons,
    "utility": _check_utility,
    "search_cost": _check_search_cost,
    "agreement": _check_agreement,
}


def read_records(folders: list[Path]) -> list[Record]:
    """The records of a sweep, in the order of its list of runs."""
    return [json.loads((folder / "record.json").read_text()) for folder in folders]


def known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _compare_row(tally: Tally, file: Path, name: str, row: pd.Series[Any], ours: dict[str, Any]) -> None:
    """One row of a table; a column that the table leaves out, since no run has it, is not missed."""
    theirs = {key: _plain(value) for key, value in row.to_dict().items()}
    wanted = {key: _plain(value) for key, value in ours.items() if key in theirs}
    tally.compare(f"{file.parent.name}/{file.name}", {name: theirs}, {name: wanted})


def _expect(tally: Tally, file: Path, key: str, theirs: Any, ours: Any) -> None:
    tally.equal(f"{file.parent.name}/{file.name}", key, theirs, ours)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if known(value) else None


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _percent(part: int | None, whole: int) -> float | None:
    return None if part is None else 100 * part / whole


def _value(measure: dict[str, Any] | None) -> float | None:
    return measure["value"] if measure else None


def _change(hybrid: dict[str, Any], student: dict[str, Any], name: str, scale: float = 1) -> float | None:
    return scale * (hybrid[name]["value"] - student[name]["value"]) if hybrid[name] and student[name] else None


def _algorithm(record: Record) -> str:
    prior = record["search"]["prior"]
    return str(record["search"]["algorithm"]) + (f"+{prior['name']}" if prior else "")


def _model_name(model: dict[str, Any]) -> str:
    return f"{model['id']}@{model['revision']}" if model["revision"] else str(model["id"])
