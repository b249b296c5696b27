"""The schema of `record.json`. `record.schema.json`, beside this file, is the same as a JSON Schema.

Tables are made from records only. So a record holds every number that a table needs, with its n and its interval.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")

ROUNDING = 1e-9
"""Tolerance when a rate is compared with the bar. Without it, rounding could fail a set that exactly reaches the bar.

It is far smaller than the share of one row, for any number of rows.
"""

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Natural = Annotated[int, Field(ge=0)]


class _RecordPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measure(_RecordPart):
    """A number, the count n that it was computed from, and its 95 % interval. The bounds are null if unknown."""

    value: float
    n: Natural
    low: float | None = None
    high: float | None = None


class Outcomes(_RecordPart):
    """The number of answers with each verdict. Retracted and degenerate answers do not count as defences.

    Failed verdicts are left out of rates.
    """

    refused: Natural
    retracted: Natural = Field(default=0, description="refused at first, and then done all the same")
    harmless: Natural
    harmful: Natural
    degenerate: Natural
    failed: Natural


class ShortenedDefence(_RecordPart):
    """Verdicts on the first tokens of the same answers: as many tokens as the search reads."""

    tokens: Natural
    dsr: Measure
    agreement: Measure = Field(description="share of answers that are a defence both times or neither time")
    only_short: Natural = Field(description="answers that are a defence by their first tokens, and none as a whole")
    only_whole: Natural = Field(description="answers that are a defence as a whole, and none by their first tokens")


class Defence(_RecordPart):
    """One judge's verdicts on a model's answers to one harmful prompt set."""

    dsr: Measure = Field(description="defense success rate: (refused + harmless) / judged")
    outcomes: Outcomes
    early_differs: Natural | None = Field(
        default=None,
        description="answers that are a defence by their beginning, as a search sees them, and none as a whole, or the"
        " other way round; null where the judge does not go by the beginning, or from before it was counted",
    )
    shortened: ShortenedDefence | None = Field(
        default=None, description="null: the search's answers are as long, or the judge was not asked about them"
    )


class ConversationsRecord(_RecordPart):
    """One judge's view of conversations that a model has answered turn by turn. Lists are by turn, from the first.

    A conversation holds as long as all of its judged answers are defences. After its last turn it keeps its state.
    """

    conversations: Natural
    held: list[Measure] = Field(description="share that holds after the turn; n counts those of which it is known")
    first_broken: list[Natural] = Field(description="conversations whose first answer that is no defence is here")
    unknown: Natural = Field(description="not broken as far as is known, but a verdict or an answer is missing")
    outgrown: Natural = Field(
        description="turns that were not asked: with them, a conversation is longer than the model reads"
    )


class Subject(_RecordPart):
    """Everything measured on one model: student, hybrid or teacher.

    A KL divergence is in nats per token, by temperature. It is null if not asked for, or if the vocabularies differ.
    """

    dsr: Measure = Field(description="on the report rows, by the run's own judge")
    dsr_clusters: Clusters | None = Field(
        default=None, description="the DSR with dependent rows in groups; null: only one group, or not measured"
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
        description="perplexity per word of the same text; n counts words; null: too large for a float"
    )
    reasoning: Measure | None = Field(description="share of questions answered correctly")
    tasks: dict[str, Measure] = Field(description="lm-evaluation-harness, by task/metric")
    kl_to_student: dict[str, Measure] | None = Field(description="KL(student ‖ model) on harmless requests")
    kl_to_teacher: dict[str, Measure] | None = Field(description="KL(teacher ‖ model) on harmful requests")
    conversations: dict[str, ConversationsRecord] = Field(default={}, description="by judge; empty: not measured")
    metrics: dict[str, dict[str, Measure]] = Field(
        default={}, description="metrics without a field of their own above: by name or step, then by key"
    )


class Clusters(_RecordPart):
    """An interval and test that do not assume that rows of one group (a category of prompts) are independent."""

    groups: Natural
    design_effect: float = Field(
        ge=1.0, description="variance of the mean relative to independent rows; effective n = n / design_effect"
    )
    low: float = Field(description="lower bound of the 95 % interval at the effective n")
    high: float
    p_value: Rate | None = Field(default=None, description="of a difference: test that flips signs of whole groups")


class Comparison(_RecordPart):
    """The hybrid compared with another model on the same rows, by the exact McNemar test.

    Under attack, also a model compared with itself on the plain rows.
    """

    against: Literal["student", "teacher", "plain"]
    difference: Measure = Field(
        description="hybrid's share minus the other's; Newcombe's method 10 (a bootstrap by category in older records)"
    )
    detectable: Rate | None = Field(
        default=None, description="null; in older records, gain that a test of independent rows finds with 80 % power"
    )
    detectable_gain: Rate | None = Field(
        default=None,
        description="smallest gain without losses that the exact McNemar test finds with 80 % power at the 5 % level;"
        " null: there is none, or an older record",
    )
    gained: Natural = Field(description="rows only the hybrid defends (refuses, on harmless requests)")
    lost: Natural = Field(description="rows only the other defends (refuses)")
    p_value: Rate
    clusters: Clusters | None = Field(default=None, description="null: only one group, or not measured")


class PerplexityComparison(_RecordPart):
    """The hybrid's perplexity minus another model's, on the same windows of text."""

    against: Literal["student", "teacher"]
    difference: Measure = Field(description="n counts windows; a paired t interval over them")
    p_value: Rate | None = Field(description="paired t test; null: too few windows, or all differences are equal")


class ControlRecord(_RecordPart):
    """A control: hybrids of other sets than the found one, on the same report rows.

    All answers here, also those for the found set, have the length limit of the search and stop once their verdict is
    certain. Fields with a default are null in older records.
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
    equal_parameters: ControlRecord | None = Field(
        default=None,
        description="sets of about as many parameters as the found one; null where all units are of one size",
    )


class Agreement(_RecordPart):
    """How far two judges agree on which answers are defences, over all models and harmful prompt sets."""

    judges: tuple[str, str]
    agreement: Measure
    kappa: float | None = Field(description="Cohen's kappa; null: a judge gave one verdict on all answers")


class LayerChange(_RecordPart):
    """The distance between hybrid and student after one layer, at the last token of a request; means over requests."""

    layer: Natural
    hidden: Measure = Field(description="1 − cosine similarity of the hidden states")
    attention: Measure | None = Field(
        description="total variation distance of the heads' attention, 0 to 1; null: no attention weights"
    )


class Claim(_RecordPart):
    """What a sequential test says of one set of a certificate on the report rows."""

    without: str | None = Field(description="null: the found set, which is to reach the bar; else the unit it lacks")
    verdict: Literal["confirmed", "refuted", "undecided"]
    prompts: Natural = Field(description="judged report rows until it was decided")
    dsr: Rate = Field(description="on these rows; a test that may stop early makes it extreme")


class Confirmation(_RecordPart):
    """Whether the found set and its certificate hold on rows that the search has not seen."""

    error_rate: Rate = Field(description="probability that any of the verdicts is wrong, at most")
    bar: Rate
    claims: list[Claim]


class EvaluateRecord(_RecordPart):
    student: Subject
    hybrid: Subject
    teacher: Subject
    comparisons: list[Comparison] = Field(description="of DSRs on the report rows, by the run's own judge")
    over_refusal_comparisons: list[Comparison] = Field(
        default=[], description="of refusals of harmless requests, by the run's own judge; empty: not measured"
    )
    perplexity_comparisons: list[PerplexityComparison] = Field(
        default=[], description="empty: not measured, or an older record"
    )
    above_threshold: Rate = Field(
        description="P(hybrid's DSR ≥ search.threshold_dsr) given the report rows (Jeffreys prior)"
    )
    above_threshold_clusters: Rate | None = Field(
        default=None, description="the same probability at the effective n; null: the effective n is unknown"
    )
    random: ControlRecord
    confirmation: Confirmation | None = Field(default=None, description="null: evaluate.confirm was not asked for")
    agreement: list[Agreement] = Field(description="one for each pair of judges; empty with a single judge")
    agreement_by_model: dict[Literal["student", "hybrid", "teacher"], list[Agreement]] = Field(
        default={}, description="the same within one model's answers, where judges may agree less than over all of them"
    )
    change_by_layer: dict[Literal["harmful", "harmless"], list[LayerChange]]
    conversation_comparisons: list[Comparison] = Field(
        default=[], description="of conversations that hold to their end, by the run's own judge; empty: not measured"
    )
    attacked: dict[str, dict[Literal["student", "hybrid", "teacher"], list[Comparison]]] = Field(
        default={},
        description="by published jailbreak, then by model: the DSR under attack minus that on the plain report rows;"
        " of the hybrid also minus student's and teacher's under the same attack; by the run's own judge",
    )


class Witness(_RecordPart):
    """A failed query that proves that one unit is needed: the found set without this unit."""

    without: str
    student: str | None = Field(
        default=None, description="the student that failed, if the set is to serve several; null: the pair's own"
    )
    query: Natural = Field(description="its line among the queries to this student")
    prompts: Natural | None = Field(
        default=None, description="search rows asked until it was certain to fail; null: an older record"
    )
    dsr: Rate = Field(description="an upper bound: rows that were not asked count as defended")


class Work(_RecordPart):
    """The engine's work in tokens, without padding."""

    prompt: Natural = Field(description="prompt tokens processed")
    draft: Natural = Field(description="tokens of earlier hybrids' answers, checked as drafts of this one's")
    decoded: Natural = Field(description="answer tokens decoded one at a time")
    layers: Natural = Field(description="passes of a token through a layer")
    layers_spared: Natural = Field(description="passes saved because an earlier hybrid had made the same")
    near_ties: Natural = Field(description="batches generated by `plain`, since rounding could have decided")


class Ledger(_RecordPart):
    """What the search cost."""

    queries: Natural = Field(description="different sets evaluated")
    cache_hits: Natural = Field(description="repeated sets, answered from earlier queries")
    prompts: Natural
    tokens: Natural = Field(description="generated")
    seconds: float
    work: Work | None = Field(default=None, description="null: an older record")


class PriorRecord(_RecordPart):
    """The prior: a score for each unit, made before the first query, and its cost."""

    name: str
    scores: dict[str, float] = Field(description="by unit; a higher score means more important")
    seconds: float
    forwards: Natural = Field(description="prompts run forward")
    backwards: Natural = Field(description="prompts run backward")


class ModelRecord(_RecordPart):
    id: str
    revision: str | None
    digest: str | None = Field(description="SHA-256 over the checkpoint's files; null: they are not on this machine")


class ServedStudent(_RecordPart):
    """One of several students that a set is to serve. The DSRs are on the search rows."""

    model: ModelRecord
    student_dsr: Rate
    threshold_dsr: Rate = Field(description="this student's bar")
    found_dsr: Rate
    everything_dsr: Rate
    ledger: Ledger = Field(description="of the queries to this student")


class SearchRecord(_RecordPart):
    algorithm: str
    prior: PriorRecord | None
    seed: int
    sample_seed: int | None = Field(description="seed of the draw of search rows; null: all rows were taken")
    granularity: str
    longer_rows: Natural | None = Field(
        default=None, description="search rows that were read at search.longer_tokens; null: that was not asked for"
    )
    units_total: Natural
    units_found: list[str]
    status: Literal["certified", "not_certified", "control", "no_gain"]
    stopped_by: Literal["queries", "seconds"] | None
    passed: bool
    threshold: Rate = Field(description="share of the DSR gain of all units that a set must keep to pass")
    threshold_dsr: Rate = Field(description="the bar: DSR on the search rows that a set must reach to pass")
    student_dsr: Rate = Field(description="on the search rows; so are the next three")
    found_dsr: Rate
    everything_dsr: Rate = Field(description="with every unit transplanted")
    teacher_dsr: Rate
    certificate: list[Witness] = Field(description="by found unit, the failed query without it; empty: not certified")
    non_monotone: Natural = Field(description="pairs of queries in which a set passed and a superset of it failed")
    ledger: Ledger = Field(description="of all students that the set is to serve")
    students: list[ServedStudent] = Field(
        default=[], description="the students that the set is to serve, the pair's own first; empty: only that one"
    )


class EngineAgreement(_RecordPart):
    """vLLM's answers with the transplanted units, read once by transformers, which has the same weights in memory."""

    answers: Natural = Field(description="the first report rows, answered at the search's length")
    tokens: Natural
    likeliest: Natural = Field(description="tokens that are the likeliest by transformers, too")
    mean_difference: float = Field(description="between the two log-probabilities of a token, in nats")
    largest_difference: float


class TransplantRecord(_RecordPart):
    method: str
    tensors: Natural
    parameters: Natural = Field(description="entries moved")
    differing: Natural | None = Field(
        default=None, description="moved entries that differ from the student's; null: an older record"
    )
    parameters_total: Natural
    percent: float = Field(description="entries moved, in percent of the student's entries")
    bytes: Natural
    digest: str = Field(description="SHA-256 over the names and digests of the transplanted tensors")
    largest: float = Field(description="largest absolute value in the transplanted tensors; all are finite")
    largest_student: float = Field(description="largest absolute value in the student's tensors that they replace")
    student_share: float | None = Field(
        default=None,
        description="what the student has of the teacher's change since its base: about 1 for a student tuned from the"
        " teacher, 0 for one tuned from the base; null: the method takes any student",
    )
    in_engine: EngineAgreement | None = Field(
        default=None, description="whether the engine's own copy of the model got the units; null: it has no copy"
    )


class DriftRecord(_RecordPart):
    """How the student of a round of `dapa drift` came about: from an earlier hybrid, by tuning."""

    pair: str = Field(description="the pair of the first run")
    rounds: Natural = Field(description="how often the student was transplanted and then tuned")
    tuned: Literal["all", "inside", "outside"] = Field(
        description="all weights, those of the found units, or the others"
    )
    equal_tensors: Natural = Field(description="of this run's hybrid: equal to the first hybrid's, bit for bit")
    tensors: Natural = Field(description="tensors in all")


class PairRecord(_RecordPart):
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
        default=None, description="the date that chat templates got as today's; null: no template asks for it"
    )
    thinking: bool | None = Field(default=None, description="enable_thinking in the chat templates; null: not set")
    drifted: DriftRecord | None = Field(default=None, description="null: the student was not made by dapa drift")
    end_tokens: list[Natural] | None = Field(
        default=None, description="tokens that ended the answers of student and hybrid; null in older records"
    )


class Stage(_RecordPart):
    seconds: float = Field(
        description="sum over all processes that worked on it, without waiting for results of another run; a killed"
        " process is not counted"
    )
    tokens: Natural = Field(description="tokens that these processes generated, or tuned on (transplant=fine_tune)")
    peak_memory_bytes: Natural = Field(description="largest resident set of these processes until the stage's end")
    reused: dict[str, str] = Field(
        default={}, description="results that cost nothing here, by file, and the run of the sweep that computed them"
    )

    def plus(self, more: Stage) -> Stage:
        """The cost of this and another process together: sums, and the larger peak."""
        return Stage(
            seconds=self.seconds + more.seconds,
            tokens=self.tokens + more.tokens,
            peak_memory_bytes=max(self.peak_memory_bytes, more.peak_memory_bytes),
            reused=self.reused | more.reused,
        )


class JudgeRecord(_RecordPart):
    version: str
    template: str | None = Field(description="SHA-256 of the judge's prompt; null: the judge asks no model")
    sees: list[Literal["refused", "harmless", "harmful"]] | None = Field(
        default=None, description="the outcomes that it tells from others; null in records from before it was asked"
    )
    answered_by: str | None = Field(
        default=None, description="the model that the judge's server says its replies are of; null: it does not say"
    )


class SetRecord(_RecordPart):
    """How many rows of a prompt set were used, and why the others were left out."""

    named: Natural = Field(description="all rows that the config names")
    repeated: Natural = Field(description="left out because an earlier row of the set has the same prompt")
    searched: Natural = Field(description="left out because a search row has the same prompt")
    similar: Natural = Field(description="other rows that resemble a search row, used or not (dataset.drop_similar)")
    used: Natural = Field(description="rows that are used")


class Provenance(_RecordPart):
    versions: dict[str, str]
    git: str | None = Field(description="commit of the working copy; '-dirty' marks local changes")
    platform: str
    created: str = Field(description="UTC, ISO 8601")
    judges: dict[str, JudgeRecord]
    seed: int
    prompt_sets: dict[str, str] = Field(description="SHA-256 over the rows used, by use")
    dropped_report_rows: Natural = Field(description="report rows left out because a search row has the same prompt")
    rows: dict[str, SetRecord] | None = Field(
        default=None, description="for every prompt set, by use; null: an older record"
    )
    similar_at: Rate | None = Field(
        default=None, description="Jaccard index of words and word pairs from which rows count as similar"
    )
    system_prompt: str | None = Field(default=None, description="system prompt of every prompt; null: none")


class Record(_RecordPart):
    schema_version: Literal[2]
    identity: str
    experiment: str
    dataset: str
    pair: PairRecord
    search: SearchRecord
    transplant: TransplantRecord
    evaluate: EvaluateRecord
    cost: dict[str, Stage] = Field(description="by stage, in the order in which they ran")
    provenance: Provenance


def damage(error: ValidationError | OSError) -> str:
    """The first problem of a file that could not be read or validated, and the count of the others, in one line."""
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
