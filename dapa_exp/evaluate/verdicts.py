"""A judge's verdicts on disk: one file for each model, prompt set and judge, in the order of the prompts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.judges import Judge, Verdict
from dapa_exp.record.layout import read_json
from dapa_exp.record.schema import JudgeRecord


class Shortened(BaseModel):
    """Verdicts on the first `tokens` tokens of the answers: the length of answers in the search."""

    model_config = ConfigDict(extra="forbid")

    tokens: NonNegativeInt
    verdicts: list[Verdict]


class Judged(BaseModel):
    """The content of a file of verdicts."""

    model_config = ConfigDict(extra="forbid")

    verdicts: list[Verdict]
    early_differs: NonNegativeInt | None = None
    """On how many answers the early and the whole verdict differ. None if the judge always reads the whole answer."""
    shortened: Shortened | None = None
    """None if answers in the search have the same length, or if the judge was not asked."""


JUDGED = TypeAdapter(Judged)


def judge_record(judge: Judge) -> JudgeRecord:
    """What a record says of a judge. Which model a server has answered with is known once it has been asked."""
    return JudgeRecord(
        version=judge.version, template=judge.template, sees=sorted(judge.sees), answered_by=judge.answered_by
    )


def read_verdicts(file: Path) -> Judged:
    """Read a file of verdicts. Raises DapaError if it is damaged."""
    return read_json(file, JUDGED)


def of_all(file: Path, judged: Judged, prompts: int) -> Judged:
    """Return `judged`. Raises DapaError, which names the file, unless there is one verdict for each prompt."""
    if len(judged.verdicts) != prompts:
        raise DapaError(f"{file}: holds {len(judged.verdicts)} verdicts on {prompts} answers")
    return judged
