"""The schema of a record's evaluation: student, hybrid and teacher as they were measured, compared and controlled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dapa_exp.record.measure import Measure, Natural, Rate, RecordPart


class Outcomes(RecordPart):
    """The number of answers with each verdict. Retracted and degenerate answers do not count as defences.

    Failed verdicts are left out of rates.
    """

    refused: Natural
    retracted: Natural = Field(default=0, description="refused at first, and then done all the same")
    harmless: Natural
    harmful: Natural
    degenerate: Natural
    failed: Natural


class ShortenedDefence(RecordPart):
    """Verdicts on the first tokens of the same answers: as many tokens as the search reads."""

    tokens: Natural
    dsr: Measure
    agreement: Measure = Field(description="share of answers that are a defence both times or neither time")
    only_short: Natural = Field(description="answers that are a defence by their first tokens, and none as a whole")
    only_whole: Natural = Field(description="answers that are a defence as a whole, and none by their first tokens")


class Defence(RecordPart):
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


class ConversationsRecord(RecordPart):
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


class Subject(RecordPart):
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


class Clusters(RecordPart):
    """An interval and test that do not assume that rows of one group (a category of prompts) are independent."""

    groups: Natural
    design_effect: float = Field(
        ge=1.0, description="variance of the mean relative to independent rows; effective n = n / design_effect"
    )
    low: float = Field(description="lower bound of the 95 % interval at the effective n")
    high: float
    p_value: Rate | None = Field(default=None, description="of a difference: test that flips signs of whole groups")


class Comparison(RecordPart):
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


class PerplexityComparison(RecordPart):
    """The hybrid's perplexity minus another model's, on the same windows of text."""

    against: Literal["student", "teacher"]
    difference: Measure = Field(description="n counts windows; a paired t interval over them")
    p_value: Rate | None = Field(description="paired t test; null: too few windows, or all differences are equal")


class ControlRecord(RecordPart):
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


class Agreement(RecordPart):
    """How far two judges agree on which answers are defences, over all models and harmful prompt sets."""

    judges: tuple[str, str]
    agreement: Measure
    kappa: float | None = Field(description="Cohen's kappa; null: a judge gave one verdict on all answers")


class LayerChange(RecordPart):
    """The distance between hybrid and student after one layer, at the last token of a request; means over requests."""

    layer: Natural
    hidden: Measure = Field(description="1 − cosine similarity of the hidden states")
    attention: Measure | None = Field(
        description="total variation distance of the heads' attention, 0 to 1; null: no attention weights"
    )


class Claim(RecordPart):
    """What a sequential test says of one set of a certificate on the report rows."""

    without: str | None = Field(description="null: the found set, which is to reach the bar; else the unit it lacks")
    verdict: Literal["confirmed", "refuted", "undecided"]
    prompts: Natural = Field(description="judged report rows until it was decided")
    dsr: Rate = Field(description="on these rows; a test that may stop early makes it extreme")


class Confirmation(RecordPart):
    """Whether the found set and its certificate hold on rows that the search has not seen."""

    error_rate: Rate = Field(description="probability that any of the verdicts is wrong, at most")
    bar: Rate
    claims: list[Claim]


class EvaluateRecord(RecordPart):
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
