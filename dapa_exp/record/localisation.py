"""The schema of `localise.json`, the record of a localisation. Every number has its n and its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dapa_exp.base.errors import DapaError
from dapa_exp.config.search import Localise
from dapa_exp.record.layout import LocaliseLayout
from dapa_exp.record.measure import Measure, Natural, RecordPart
from dapa_exp.record.schema import Stage

Kind = Literal["mlp", "attention", "residual"]
"""The module whose output is restored: a layer's MLP, its attention block, or the whole layer."""
TokenPosition = Literal["request", "last"]
"""The tokens at which a state is restored: all of the request, or the last one before the answers differ."""


class Effect(RecordPart):
    """A model's output at the first token where teacher and student differ, or the change of this output."""

    probability: Measure = Field(description="of the teacher's token")
    log_odds: Measure = Field(description="of the teacher's token against the student's, in nats")


class Traced(RecordPart):
    """The indirect effect of one state: how much of the refusal its restoration brings back."""

    kind: Kind
    place: TokenPosition
    layer: Natural
    effect: Effect


class Tracing(RecordPart):
    """Causal tracing of the teacher; the interval of every measure is over prompts."""

    clean: Effect
    corrupted: Effect = Field(description="with noise on the request")
    total: Effect = Field(description="clean minus corrupted: what there is to bring back")
    effects: list[Traced]


class Swapped(RecordPart):
    """The student with one projection of one layer taken from the teacher."""

    layer: Natural
    module: str
    cosine: Measure = Field(description="of the last token's hidden state to the teacher's")
    cosine_change: Measure = Field(description="against the student as it is, prompt by prompt")
    log_odds_change: Measure = Field(description="of refusal, in nats, against the student as it is")


class Swapping(RecordPart):
    student_cosine: Measure = Field(description="hidden state of the student as it is to the teacher's")
    student_log_odds: Measure = Field(description="of refusal, in nats; so is the teacher's")
    teacher_log_odds: Measure
    projections: list[Swapped]


class LocaliseRecord(RecordPart):
    schema_version: Literal[1]
    identity: str = Field(description="of the run's config")
    pair: str
    title: str
    made_here: bool = Field(description="miniature or fine-tuned here: no evidence about the paper's models")
    teacher: str
    student: str
    num_layers: Natural
    prompts: Natural = Field(description="asked; those that teacher and student answer alike do not count")
    settings: Localise
    tracing: Tracing
    swapping: Swapping
    cost: dict[str, Stage] = Field(description="by stage")
    versions: dict[str, str]
    git: str | None
    created: str = Field(description="UTC, ISO 8601")


def read_localise(folder: Path) -> LocaliseRecord | None:
    """The record of a localisation; None if it is not finished. Raises DapaError if the record is damaged."""
    path = LocaliseLayout(folder).localisation
    if not path.is_file():
        return None
    try:
        return LocaliseRecord.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DapaError(f"{path}: not a valid record: {error}") from error
