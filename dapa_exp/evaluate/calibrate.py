"""`dapa calibrate`: how far a judge agrees with people, on answers that they have labelled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.evaluate.defence import agreement
from dapa_exp.evaluate.statistics import paired_difference, rate
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.judges import Judge, Verdict
from dapa_exp.record.schema import Measure

Asked = Literal["refused", "harmful"]


@dataclass(frozen=True)
class Labelled:
    """An answer, and whether people say that it is what is asked for."""

    prompt: str
    response: str
    positive: bool


@dataclass(frozen=True)
class Calibration:
    """A judge against people. Rows on which the judge failed count nowhere but in `failed`."""

    judge: str
    version: str
    template: str | None
    asked: Asked
    """What the labels are about, and what precision and recall are of."""
    left_out: list[int]
    failed: int
    confusion: dict[str, int]
    """By what people say and what the judge says."""
    precision: Measure
    recall: Measure
    agreement: Measure
    kappa: float | None
    dsr_bias: Measure
    """The judge's DSR minus people's on the same rows; bootstrap interval."""
    disagreements: list[int]
    """Rows, from 0."""


def calibrate(judge: Judge, rows: Sequence[Labelled], asked: Asked, left_out: Iterable[int] = ()) -> Calibration:
    """Score the rows but those left out, and compare.

    Labels about refusing are compared with *refused*, labels about harm with *harmful*; in the DSR bias,
    what is not refused, or is harmful, counts as no defence. Raises DapaError where the judge cannot see what
    the labels are about.
    """
    if asked == "refused" and "refused" not in judge.sees:
        raise DapaError(
            f"judge {judge.name} does not tell refusals from other answers, so labels of refusals say nothing of it;"
            " harmful=VALUE compares it with labels of harm"
        )
    excluded = set(left_out)
    places = [i for i in range(len(rows)) if i not in excluded]
    verdicts = judge.verdicts([rows[i].prompt for i in places], [rows[i].response for i in places])
    meant = {"refused": {Verdict.REFUSED}, "harmful": {Verdict.HARMFUL, Verdict.RETRACTED}}[asked]
    judged = [(i, v in meant) for i, v in zip(places, verdicts, strict=True) if v is not Verdict.FAILED]
    pairs = [(rows[i].positive, said) for i, said in judged]
    both, missed, invented = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True)))
    people, machine = ([_verdict(asked, pair[side]) for pair in pairs] for side in (0, 1))
    compared = agreement({"people": people, "judge": machine})[0]
    sign = 1 if asked == "refused" else -1
    return Calibration(
        judge=judge.name,
        version=judge.version,
        template=judge.template,
        asked=asked,
        left_out=sorted(excluded),
        failed=len(places) - len(judged),
        confusion={
            f"people {asked}, judge {asked}": both,
            f"people {asked}, judge not": missed,
            f"people not, judge {asked}": invented,
            "people not, judge not": pairs.count((False, False)),
        },
        precision=rate(both, both + invented),
        recall=rate(both, both + missed),
        agreement=compared.agreement,
        kappa=compared.kappa,
        dsr_bias=paired_difference([sign * (said - label) for label, said in pairs], range(len(pairs))),
        disagreements=[i for i, said in judged if said != rows[i].positive],
    )


def read_labels(source: str, prompt: str, response: str, label: str, positive: str) -> list[Labelled]:
    """Labelled answers from `fetched:NAME`, a .csv or a .jsonl file. `positive` is the label value that is asked for.

    Raises DapaError where the file or a column is not there, or no row has that value.
    """
    table = _read(source)
    if not table:
        raise DapaError(f"{source}: holds no rows")
    for place, row in enumerate(table):
        for column in (prompt, response, label):
            if row.get(column) is None:
                where = f"row {place} has no '{column}'" if place else f"no column '{column}'"
                raise DapaError(f"{source}: {where};{nearest(column, row)} it has: {', '.join(row)}")
        if row[label] == "":  # not labelled yet, or a line of a .csv that ends early: no label against it
            raise DapaError(f"{source}: row {place} has an empty '{label}'")
    values = {str(row[label]) for row in table}
    if positive not in values:
        raise DapaError(
            f"{source}: no row has '{positive}' in column '{label}'; it holds: {', '.join(sorted(values)[:9])};"
            " refused=VALUE or harmful=VALUE says which of them counts"
        )
    return [Labelled(str(row[prompt]), str(row[response]), str(row[label]) == positive) for row in table]


def _read(source: str) -> list[dict[str, Any]]:
    if source.startswith("fetched:"):
        return fetched_rows(source.removeprefix("fetched:"))
    file = Path(source).expanduser()
    try:
        match file.suffix:
            case ".jsonl":
                lines = enumerate(file.read_text(encoding="utf-8").split("\n"), 1)
                return [_object(number, line) for number, line in lines if line.strip()]
            case ".csv":
                table = pd.read_csv(file, dtype=str, keep_default_na=False)
                return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
            case suffix:
                raise DapaError(f"{file}: labels are read from .csv and .jsonl, not '{suffix}'")
    except (OSError, ValueError) as error:
        raise DapaError(f"{file}: cannot be read: {error}") from error


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number}: not a JSON object")
    return row


def _verdict(asked: Asked, positive: bool) -> Verdict:
    defended = positive if asked == "refused" else not positive
    return Verdict.REFUSED if defended else Verdict.HARMFUL
