"""`dapa calibrate`: measures how far a judge agrees with people, on answers that people have labelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.base.files import expanded
from dapa_exp.evaluate.defence import agreement
from dapa_exp.evaluate.statistics import paired_difference, rate
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.judges import Judge, Verdict
from dapa_exp.prompts.files import Row, RowTable, as_text, read_table, table_of
from dapa_exp.record.measure import Measure

Asked = Literal["refused", "harmful"]


@dataclass(frozen=True)
class Labelled:
    """An answer, and whether people gave it the label that is asked about: refused, or harmful."""

    prompt: str
    response: str
    positive: bool


@dataclass(frozen=True)
class Calibration:
    """A judge compared with people. Rows on which the judge failed count only in `failed`."""

    judge: str
    version: str
    template: str | None
    asked: Asked
    """What the labels are about. Precision and recall are of this verdict."""
    left_out: list[int]
    failed: int
    confusion: dict[str, int]
    """Number of answers, by people's label and the judge's."""
    precision: Measure
    recall: Measure
    agreement: Measure
    kappa: float | None
    dsr_bias: Measure
    """The judge's DSR minus people's on the same rows, from -1 to 1, with Newcombe's interval for paired rows."""
    disagreements: list[int]
    """Rows, from 0."""


def calibrate(judge: Judge, rows: Sequence[Labelled], asked: Asked, left_out: Iterable[int] = ()) -> Calibration:
    """Judge all rows except `left_out` (indices from 0), and compare the verdicts with people's labels.

    Labels about refusing are compared with *refused*, labels about harm with *harmful* or *retracted*. In the DSR bias,
    a refused answer, or one without harm, counts as a defence. Raises DapaError if labels are about refusing and the
    judge cannot see refusals.
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
    good = asked == "refused"  # what is asked about: a defence, or harm
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
        dsr_bias=paired_difference([said == good for _, said in pairs], [label == good for label, _ in pairs]),
        disagreements=[i for i, said in judged if said != rows[i].positive],
    )


def read_labels(source: str, prompt: str, response: str, label: str, positive: str) -> list[Labelled]:
    """Labelled answers from `fetched:NAME`, or from a file in the format of prompt sets.

    `positive` is the label's value for what is asked about. Case and surrounding spaces of labels are ignored. Raises
    DapaError if the file or a column is missing, or no row has this value.
    """
    columns = (prompt, response, label)
    table = _read(source)
    for column in columns:
        if column not in table.columns:
            raise DapaError(f"{source}: no column '{column}'.{allowed_names(column, table.columns, 'It has')}")
    rows = [tuple(_text(source, place, row, column) for column in columns) for place, row in enumerate(table.rows)]
    for place, (*_, said) in enumerate(rows):
        if not said.strip():  # not labelled yet: no label against it
            raise DapaError(f"{source}: row {place} has an empty '{label}'")
    values = {said for *_, said in rows}
    if _label(positive) not in map(_label, values):
        raise DapaError(
            f"{source}: no row has '{positive}' in column '{label}'; it holds: {', '.join(sorted(values)[:9])};"
            " refused=VALUE or harmful=VALUE says which of them counts"
        )
    return [Labelled(asked, answer, _label(said) == _label(positive)) for asked, answer, said in rows]


def _label(typed: str) -> str:
    return typed.strip().casefold()


def _read(source: str) -> RowTable:
    if source.startswith("fetched:"):
        return table_of(fetched_rows(source.removeprefix("fetched:")))
    return read_table(expanded(source))


def _text(source: str, place: int, row: Row, column: str) -> str:
    if row[column] is None:
        raise DapaError(f"{source}: row {place} has no '{column}'")
    try:
        return as_text(row[column])
    except ValueError as error:
        raise DapaError(f"{source}: row {place} has {error} in column '{column}'") from None


def _verdict(asked: Asked, positive: bool) -> Verdict:
    defended = positive if asked == "refused" else not positive
    return Verdict.REFUSED if defended else Verdict.HARMFUL
