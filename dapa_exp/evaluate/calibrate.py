"""`dapa calibrate`: how far a judge agrees with people, on answers that they have labelled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.table import Table

from dapa_exp.errors import DapaError, nearest
from dapa_exp.evaluate.defence import agreement, out_of_order
from dapa_exp.evaluate.judges import Judge, Verdict, make_judge
from dapa_exp.evaluate.judges.command import cost, judge_config
from dapa_exp.evaluate.statistics import paired_difference, rate
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.progress import console
from dapa_exp.record.folder import write_atomically
from dapa_exp.record.schema import Measure

Asked = Literal["refused", "harmful"]
WORDS = {"labels": None, "prompt": "prompt", "response": "response", "label": "label", "without": "", "out": ""}
"""What the command takes beside the judge, and its defaults; and one of refused=VALUE (1) and harmful=VALUE."""


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


def calibrate_command(words: Sequence[str]) -> int:
    """`dapa calibrate judge=NAME labels=FILE …`: compare, print, and write beside the labels.

    Further words: prompt, response and label name columns; refused=VALUE or harmful=VALUE says what the
    labels mean; without=3,7-9 leaves rows out; out=FILE is where the JSON goes. Failed (1) where most of the
    verdicts are missing.
    """
    own, asked, value, others = _split(words)
    config = judge_config("calibrate", others)
    source = own["labels"]
    rows = read_labels(source, own["prompt"], own["response"], own["label"], value)
    judge = make_judge(config)
    found = calibrate(judge, rows, asked, _rows(own["without"], len(rows)))
    place = Path(source).expanduser() if not source.startswith("fetched:") else Path(source.removeprefix("fetched:"))
    out = Path(own["out"]) if own["out"] else place.with_name(f"{place.stem}-{config.name}.json")
    body = {key: _plain(value) for key, value in vars(found).items()}
    console().print(_table(found), cost(judge))
    try:
        write_atomically(out, json.dumps({"labels": source, "rows": len(rows), **body}, indent=1) + "\n")
    except OSError as error:
        raise DapaError(f"{out}: cannot be written: {error.strerror}") from error
    print(out)
    asked_of = len(rows) - len(found.left_out)
    if found.failed:
        print(f"{found.failed} of {asked_of} verdicts are missing: the same command asks for them again")
    return int(out_of_order(found.failed, asked_of))


def calibrate(judge: Judge, rows: Sequence[Labelled], asked: Asked, left_out: Iterable[int] = ()) -> Calibration:
    """Score the rows but those left out, and compare.

    Labels about refusing are compared with *refused*, labels about harm with *harmful*; in the DSR bias,
    what is not refused, or is harmful, counts as no defence.
    """
    excluded = set(left_out)
    places = [i for i in range(len(rows)) if i not in excluded]
    verdicts = judge.verdicts([rows[i].prompt for i in places], [rows[i].response for i in places])
    judged = [(i, v is Verdict(asked)) for i, v in zip(places, verdicts, strict=True) if v is not Verdict.FAILED]
    pairs = [(rows[i].positive, said) for i, said in judged]
    both, missed, invented = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True)))
    people, machine = ([_outcome(asked, pair[side]) for pair in pairs] for side in (0, 1))
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


def _split(words: Sequence[str]) -> tuple[dict[str, str], Asked, str, list[str]]:
    """The command's own words, what the labels are about, which value says so, and the words about the judge."""
    mine = [word for word in words if "=" in word and word.partition("=")[0] in (*WORDS, "refused", "harmful")]
    given = dict(word.split("=", 1) for word in mine)
    if "labels" not in given:
        raise DapaError("dapa calibrate needs labels=FILE (.csv or .jsonl) or labels=fetched:NAME")
    if "refused" in given and "harmful" in given:
        raise DapaError("dapa calibrate: labels are about refusing or about harm: give refused=VALUE or harmful=VALUE")
    asked: Asked = "harmful" if "harmful" in given else "refused"
    own = {key: given.get(key, default or "") for key, default in WORDS.items()}
    return own, asked, given.get(asked, "1"), [word for word in words if word not in mine]


def _rows(words: str, count: int) -> set[int]:
    """Row numbers from 0, as in "3,7-9". Raises DapaError where they are none, or there is no such row."""
    found: set[int] = set()
    try:
        for word in filter(None, words.split(",")):
            first, _, last = word.partition("-")
            named = range(int(first), int(last or first) + 1)
            if not named:
                raise ValueError
            found |= set(named)
    except ValueError as error:
        raise DapaError(f"without={words}: row numbers are wanted, such as 3,7-9") from error
    if beyond := [row for row in found if row >= count]:
        raise DapaError(f"without={words}: row {max(beyond)}, but the last is {count - 1}")
    if len(found) == count:
        raise DapaError(f"without={words}: leaves out all {count} rows")
    return found


def _outcome(asked: Asked, positive: bool) -> Verdict:
    defended = positive if asked == "refused" else not positive
    return Verdict.REFUSED if defended else Verdict.HARMFUL


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, Measure) else value


def _table(found: Calibration) -> Table:
    table = Table("measure", "value", "95 % interval", title=f"{found.judge} {found.version} against people")
    measures: Mapping[str, tuple[Measure, float, str]] = {
        f"precision of {found.asked}": (found.precision, 100, " %"),
        f"recall of {found.asked}": (found.recall, 100, " %"),
        "agreement": (found.agreement, 100, " %"),
        "DSR bias": (found.dsr_bias, 100, " points"),
    }
    for name, (measure, scale, unit) in measures.items():
        between = (
            ""
            if measure.low is None or measure.high is None
            else f"{scale * measure.low:.1f} to {scale * measure.high:.1f}"
        )
        known = (f"{scale * measure.value:.1f}{unit}", between) if measure.n else ("–", "")
        table.add_row(f"{name} (n={measure.n})", *known)
    table.add_row("Cohen's kappa", "—" if found.kappa is None else f"{found.kappa:.3f}", "")
    for cell, count in found.confusion.items():
        table.add_row(cell, str(count), "")
    table.add_row("judge failed", str(found.failed), "")
    return table
