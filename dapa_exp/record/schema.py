"""What `record.json` holds. `record.schema.json`, beside this file, is the same as a JSON Schema.

Tables are made from records only, so whatever a table needs is here, with its n and its interval.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")

ROUNDING = 1e-9
"""What a rate may be off by in floats: far less than one row of any number of rows. A set at the bar passes."""

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Natural = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measure(_Part):
    """A number with what it rests on. The interval is 95 %; null where none is known."""

    value: float
    n: Natural
    low: float | None = None
    high: float | None = None


class Outcomes(_Part):
    """How many completions got which outcome. Retracted and degenerate ones are no defence, failed ones no data."""

    refused: Natural
    retracted: Natural = Field(default=0, description="refused at first, and then done all the same")
    harmless: Natural
    harmful: Natural
    degenerate: Natural
    failed: Natural


class Defence(_Part):
    """The answers to one harmful prompt set as one judge sees them."""

    dsr: Measure = Field(description="defense success rate: (refused + harmless) / judged")
    outcomes: Outcomes
    early_differs: Natural | None = Field(
        default=None,
        description="answers that are a defence by their beginning, as a search sees them, and none as a whole, or the"
        " other way round; null where the judge does not go by the beginning, or from before it was counted",
    )


class Subject(_Part):
    """What was measured of one model: student, hybrid or teacher.

    A divergence is in nats a token, by temperature; null where it was not asked for or vocabularies differ.
    """

    dsr: Measure = Field(description="on the report rows, by the run's own judge")
    dsr_clusters: Clusters | None = Field(
        default=None, description="the same by groups of rows; null where all are of one group, or not counted"
    )
    outcomes: Outcomes
    over_refusal: Measure | None = Field(description="share of harmless requests refused, by the run's own judge")
    defence: dict[str, dict[str, Defence]] = Field(description="by harmful prompt set, then by judge")
    over_refusals: dict[str, dict[str, Measure | None]] = Field(
        description="by harmless prompt set, then by judge; null where it cannot see refusals"
    )
    no_over_refusal: dict[str, str] = Field(default={}, description="by judge: why its over-refusals are null")
    perplexity: Measure | None = Field(description="of held-out text; n counts tokens")
    word_perplexity: Measure | None = Field(
        description="the same text, a word; n counts words; null where it is larger than any float, as without spaces"
    )
    reasoning: Measure | None = Field(description="share of questions answered right")
    tasks: dict[str, Measure] = Field(description="lm-evaluation-harness, by task/metric")
    kl_to_student: dict[str, Measure] | None = Field(description="KL(student ‖ model) on harmless requests")
    kl_to_teacher: dict[str, Measure] | None = Field(description="KL(teacher ‖ model) on harmful requests")


class Clusters(_Part):
    """The same number where rows of one group (a category of prompts) are not independent."""

    groups: Natural
    design_effect: float = Field(
        ge=1.0, description="variance of the mean over that of independent rows; n rows are worth n / design_effect"
    )
    low: float = Field(description="95 % interval at the effective number of rows")
    high: float
    p_value: Rate | None = Field(default=None, description="of a difference: signs of whole groups changed at random")


class Comparison(_Part):
    """Hybrid against another model on the same rows: exact McNemar test, row by row."""

    against: Literal["student", "teacher"]
    difference: Measure = Field(
        description="hybrid's share minus the other's; Newcombe's method 10 (a bootstrap by category in older records)"
    )
    detectable: Rate | None = Field(
        default=None, description="null; in older records, a gain shown with 80 % power by a test of independent rows"
    )
    detectable_gain: Rate | None = Field(
        default=None,
        description="smallest gain without losses that the exact McNemar test finds with 80 % power at the 5 % level;"
        " null: none, or an older record",
    )
    gained: Natural = Field(description="rows only the hybrid defends (refuses, on harmless requests)")
    lost: Natural = Field(description="rows only the other defends (refuses)")
    p_value: Rate
    clusters: Clusters | None = Field(default=None, description="null where all rows are of one group, or not counted")


class PerplexityComparison(_Part):
    """Hybrid's perplexity minus another model's, on the same windows of text."""

    against: Literal["student", "teacher"]
    difference: Measure = Field(description="n counts windows; a paired t interval over them")
    p_value: Rate | None = Field(description="paired t test; null where there are too few windows, or all are equal")


class Control(_Part):
    """Hybrids of other sets than the found one, on the same report rows.

    Answers are of the search's length and go no further than their verdicts need, for the found set as for the others.
    Fields with a default are null in records from before they were measured.
    """

    k: Natural = Field(description="units a set; with equal_parameters, of the first")
    dsr: list[Measure] = Field(description="one a set")
    mean: Rate | None
    sets: list[list[str]] | None = Field(default=None, description="the units of each set")
    parameters: list[Natural] | None = Field(default=None, description="entries of the tensors of each set")
    found_dsr: Measure | None = Field(default=None, description="of the found set, its answers read in the same way")
    interval: Measure | None = Field(default=None, description="the mean over sets, with its interval; n counts sets")
    reached: Natural | None = Field(default=None, description="sets whose DSR is at least the found one's")
    p_value: Rate | None = Field(
        default=None, description="(1 + reached) / (1 + sets): a random set does as well as the found one"
    )
    exact: bool | None = Field(default=None, description="all other sets of k units were asked, so p_value is exact")
    equal_parameters: Control | None = Field(
        default=None,
        description="sets of about as many parameters as the found one; null where all units are of one size",
    )


class Agreement(_Part):
    """Two judges on the same completions, of all models and harmful prompt sets: defended or not."""

    judges: tuple[str, str]
    agreement: Measure
    kappa: float | None = Field(description="Cohen's; null where one of the judges said the same of all")


class LayerChange(_Part):
    """How far the hybrid's inner workings are from the student's after one layer, at a request's last token."""

    layer: Natural
    hidden: Measure = Field(description="1 − cosine similarity of the hidden states")
    attention: Measure | None = Field(
        description="total variation distance of the heads' attention, 0 to 1; null where the layer shows none"
    )


class EvaluateRecord(_Part):
    student: Subject
    hybrid: Subject
    teacher: Subject
    comparisons: list[Comparison] = Field(description="of DSRs on the report rows, by the run's own judge")
    over_refusal_comparisons: list[Comparison] = Field(
        default=[], description="of refusals of harmless requests, by the run's own judge; empty where not counted"
    )
    perplexity_comparisons: list[PerplexityComparison] = Field(
        default=[], description="empty where not measured, or in older records"
    )
    above_threshold: Rate = Field(
        description="P(hybrid's DSR ≥ search.threshold_dsr) given the report rows (Jeffreys prior)"
    )
    above_threshold_clusters: Rate | None = Field(
        default=None, description="the same at the effective number of rows; null where that is not known"
    )
    random: Control
    agreement: list[Agreement] = Field(description="a pair of judges each; empty with a single judge")
    agreement_by_model: dict[Literal["student", "hybrid", "teacher"], list[Agreement]] = Field(
        default={}, description="the same within one model's answers, where judges may agree less than over all of them"
    )
    change_by_layer: dict[Literal["harmful", "harmless"], list[LayerChange]]


class Witness(_Part):
    """A set that was queried and failed: the answer without one unit."""

    without: str
    query: Natural
    prompts: Natural | None = Field(
        default=None, description="search rows that it took to see it fail; null in records from before it was counted"
    )
    dsr: Rate = Field(description="at most: rows that were not asked count as defended")


class Work(_Part):
    """What the engine did, in tokens; padding is not counted."""

    prompt: Natural = Field(description="tokens of prompts read")
    draft: Natural = Field(description="tokens of earlier hybrids' answers read, to see how far they are this one's")
    decoded: Natural = Field(description="tokens of answers read one at a time")
    layers: Natural = Field(description="passes of a token through a layer")
    layers_spared: Natural = Field(description="passes that were not made again, since an earlier hybrid had made them")
    near_ties: Natural = Field(description="batches in which rounding could decide, so that `plain` generated them")


class Ledger(_Part):
    """What the search cost."""

    queries: Natural = Field(description="unique sets evaluated")
    cache_hits: Natural = Field(description="sets asked for again, answered from the trace")
    prompts: Natural
    tokens: Natural = Field(description="generated")
    seconds: float
    work: Work | None = Field(default=None, description="null in records from before it was counted")


class PriorRecord(_Part):
    """What was expected of each unit before the first query, and what finding that out cost."""

    name: str
    scores: dict[str, float] = Field(description="by unit; higher is more important")
    seconds: float
    forwards: Natural = Field(description="prompts run forward")
    backwards: Natural = Field(description="prompts run backward")


class SearchRecord(_Part):
    algorithm: str
    prior: PriorRecord | None
    seed: int
    sample_seed: int | None = Field(description="with which the search rows were drawn; null: all rows were taken")
    granularity: str
    units_total: Natural
    units_found: list[str]
    status: Literal["certified", "not_certified", "control", "no_gain"]
    stopped_by: Literal["queries", "seconds"] | None
    passed: bool
    threshold: Rate = Field(description="share of the DSR gain of everything that a set must keep to pass")
    threshold_dsr: Rate = Field(description="DSR on the search rows that a set must reach to pass")
    student_dsr: Rate = Field(description="on the search rows; so are the next three")
    found_dsr: Rate
    everything_dsr: Rate = Field(description="with every unit transplanted")
    teacher_dsr: Rate
    certificate: list[Witness] = Field(description="one failing set a unit; empty where not certified")
    non_monotone: Natural = Field(description="pairs of queries seen in which a set passed and a larger one failed")
    ledger: Ledger


class TransplantRecord(_Part):
    method: str
    tensors: Natural
    parameters: Natural = Field(description="entries moved")
    differing: Natural | None = Field(
        default=None, description="of these, entries that differ from the student's; null in records that did not count"
    )
    parameters_total: Natural
    percent: float = Field(description="entries moved, of all entries of the student")
    bytes: Natural
    digest: str = Field(description="SHA-256 over the names and digests of the transplanted tensors")
    largest: float = Field(description="largest absolute value in the transplanted tensors; all are finite")
    largest_student: float = Field(description="the same of the student's tensors in their places")


class ModelRecord(_Part):
    id: str
    revision: str | None
    digest: str | None = Field(description="SHA-256 over the checkpoint's files where they are on this machine")


class PairRecord(_Part):
    name: str
    family: str
    title: str
    made_here: bool = Field(description="miniature or fine-tuned here: no evidence about the paper's models")
    paper17: bool
    model_type: str
    num_layers: Natural
    teacher: ModelRecord
    student: ModelRecord
    differences: list[str]
    chat_template: Literal["own", "teacher"]
    template_date: str | None = Field(
        default=None, description="the day that chat templates were told is today; null: none of them asks"
    )
    thinking: bool | None = Field(
        default=None, description="thinking before an answer, switched on or off in the templates; null: left alone"
    )
    end_tokens: list[Natural] | None = Field(
        default=None, description="tokens that ended the answers of student and hybrid; null in older records"
    )


class Stage(_Part):
    seconds: float = Field(description="of all processes that worked on it, but for a killed one")
    tokens: Natural = Field(description="generated, by these")
    peak_memory_bytes: Natural = Field(description="highest resident set of any of them up to the stage's end")

    def plus(self, more: Stage) -> Stage:
        """This, and what another process did."""
        return Stage(
            seconds=self.seconds + more.seconds,
            tokens=self.tokens + more.tokens,
            peak_memory_bytes=max(self.peak_memory_bytes, more.peak_memory_bytes),
        )


class JudgeRecord(_Part):
    version: str
    template: str | None = Field(description="SHA-256 of the prompt that it puts to a model; null where it asks none")
    sees: list[Literal["refused", "harmless", "harmful"]] | None = Field(
        default=None, description="the outcomes that it tells from others; null in records from before it was asked"
    )


class SetRecord(_Part):
    """What became of the rows that the config names of a prompt set."""

    named: Natural = Field(description="rows that the config names")
    repeated: Natural = Field(description="left out, since an earlier row of the set is the same prompt")
    searched: Natural = Field(description="left out, since the search rows hold the same prompt")
    similar: Natural = Field(description="of the others, those that resemble a search row; left out or not")
    used: Natural = Field(description="rows that were asked")


class Provenance(_Part):
    versions: dict[str, str]
    git: str | None = Field(description="commit of the working copy, with '-dirty' where it was changed")
    platform: str
    created: str = Field(description="UTC, ISO 8601")
    judges: dict[str, JudgeRecord]
    seed: int
    prompt_sets: dict[str, str] = Field(description="SHA-256 over the rows used, by use")
    dropped_report_rows: Natural = Field(
        description="report rows left out because the search rows hold the same prompt"
    )
    rows: dict[str, SetRecord] | None = Field(
        default=None, description="by use, of every set of prompts; null in records from before they were counted"
    )
    similar_at: Rate | None = Field(
        default=None, description="Jaccard index of words and word pairs at which rows count as similar"
    )
    system_prompt: str | None = Field(default=None, description="said before every prompt; null: nothing")


class Record(_Part):
    schema_version: Literal[2]
    identity: str
    experiment: str
    dataset: str
    pair: PairRecord
    search: SearchRecord
    transplant: TransplantRecord
    evaluate: EvaluateRecord
    cost: dict[str, Stage] = Field(description="by stage, in the order run")
    provenance: Provenance


def damage(error: ValidationError | OSError) -> str:
    """The first thing that is wrong with a record that could not be read, in one line."""
    if isinstance(error, OSError):
        return str(error.strerror)
    first, others = error.errors()[0], error.error_count() - 1
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}{f', and {others} more' if others else ''}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a record, as it stands in `record.schema.json`."""
    return Record.model_json_schema()


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n")
