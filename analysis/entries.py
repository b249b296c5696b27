"""Takes a record apart: every number of it as an entry that says what it measures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from dapa_exp.evaluate.statistics import PairedTable, newcombe
from dapa_exp.record.evaluation import (
    Agreement,
    Comparison,
    Confirmation,
    ControlRecord,
    ConversationsRecord,
    Defence,
    EvaluateRecord,
    PerplexityComparison,
    Subject,
)
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record, SearchRecord

SUBJECTS = ("student", "hybrid", "teacher")
NAN = float("nan")


class Entry(NamedTuple):
    """One number of a record, and what it measures."""

    metric: str
    value: float = NAN
    low: float = NAN
    high: float = NAN
    n: int | None = None
    text: str | None = None
    subject: str = ""
    against: str = ""
    set: str = ""
    judge: str = ""
    key: str = ""
    headline: bool = True


def entries_of(record: Record) -> Iterator[Entry]:
    """Yields every number of a record."""
    yield from _search(record.search)
    transplant = record.transplant
    yield Entry("num_layers", record.pair.num_layers)
    if drifted := record.pair.drifted:
        yield Entry("drift_round", drifted.rounds)
        yield Entry("drift_tuned", text=drifted.tuned)
        yield Entry("drift_pair", text=drifted.pair)
        yield Entry("drift_equal_tensors", drifted.equal_tensors, n=drifted.tensors)
    yield Entry("transplant_digest", text=transplant.digest)
    yield Entry("method", text=transplant.method)
    yield Entry("tensors", transplant.tensors)
    yield Entry("parameters_total", transplant.parameters_total)
    yield Entry("parameters_moved", transplant.parameters)
    yield Entry("parameters_moved_percent", transplant.percent)
    if transplant.student_share is not None:
        yield Entry("student_share", transplant.student_share)
    if transplant.differing is not None:
        yield Entry("parameters_changed", transplant.differing)
        share = transplant.differing / transplant.parameters_total if transplant.parameters_total else NAN
        yield Entry("parameters_changed_percent", 100 * share)
    for name in SUBJECTS:
        yield from _subject(name, getattr(record.evaluate, name))
    yield from _evaluate(record.evaluate)
    for stage, cost in record.cost.items():
        yield Entry("cost_seconds", cost.seconds, key=stage)
        yield Entry("cost_tokens", cost.tokens, key=stage)
        yield Entry("peak_memory_bytes", cost.peak_memory_bytes, key=stage)
    yield Entry("dropped_report_rows", record.provenance.dropped_report_rows)
    for use, rows in (record.provenance.rows or {}).items():
        yield Entry("rows_named", rows.named, key=use)
        yield Entry("rows_left_out", rows.named - rows.used, key=use)


def _search_settled(search: SearchRecord) -> Iterator[Entry]:
    yield Entry("status", text=search.status)
    if search.stopped_by:
        yield Entry("stopped_by", text=search.stopped_by)
    if search.students:
        yield Entry("served_students", text=", ".join(student.model.id for student in search.students))


def _search(search: SearchRecord) -> Iterator[Entry]:
    yield from _search_settled(search)
    yield Entry("units_total", search.units_total)
    yield Entry("units_found", len(search.units_found))
    for unit in search.units_found:
        yield Entry("unit", 1.0, key=unit)
    for witness in search.certificate:
        yield Entry("witness_dsr", witness.dsr, n=witness.prompts, key=witness.without)
    if search.sample_seed is not None:
        yield Entry("sample_seed", search.sample_seed)
    if search.longer_rows is not None:
        yield Entry("longer_rows", search.longer_rows, set="search")
    yield Entry("threshold", search.threshold)
    yield Entry("bar", search.threshold_dsr)
    for subject, dsr in (
        ("student", search.student_dsr),
        ("hybrid", search.found_dsr),
        ("everything", search.everything_dsr),
        ("teacher", search.teacher_dsr),
    ):
        yield Entry("search_dsr", dsr, subject=subject, set="search")
    yield Entry("non_monotone", search.non_monotone)
    for name in ("queries", "cache_hits", "prompts", "tokens", "seconds"):
        yield Entry(name, getattr(search.ledger, name))
    if search.prior:
        for unit, score in search.prior.scores.items():
            yield Entry("prior_score", score, key=unit)


def _subject(name: str, subject: Subject) -> Iterator[Entry]:
    """Yields the numbers of one model. The run's own judge, the first of each set, gives the headline numbers."""
    for rows, defences in subject.defence.items():
        for i, (judge, defence) in enumerate(defences.items()):
            yield from _defence(defence, subject=name, set=rows, judge=judge, headline=rows == "report" and i == 0)
    if clusters := subject.dsr_clusters:
        bounds = (clusters.low, clusters.high, clusters.groups)
        yield Entry("dsr_by_group", subject.dsr.value, *bounds, subject=name, set="report")
        yield Entry("design_effect", clusters.design_effect, subject=name, set="report")
    for rows, refusals in subject.over_refusals.items():
        for i, (judge, measure) in enumerate(refusals.items()):
            where: dict[str, Any] = {"set": rows, "judge": judge, "headline": rows == "harmless" and i == 0}
            if measure is not None:
                yield _number("over_refusal", measure, subject=name, **where)
    for judge, why in subject.no_over_refusal.items():
        yield Entry("no_over_refusal", text=why, subject=name, judge=judge, headline=False)
    for i, (judge, found) in enumerate(subject.conversations.items()):
        yield from _conversations(found, subject=name, set="conversations", judge=judge, headline=i == 0)
    yield from _utility(name, subject)


def _conversations(found: ConversationsRecord, **where: Any) -> Iterator[Entry]:
    for turn, (share, broken) in enumerate(zip(found.held, found.first_broken, strict=True), 1):
        yield _number("held", share, key=str(turn), **where)
        yield Entry("first_broken", broken, n=found.conversations, key=str(turn), **where)
    yield Entry("held_unknown", found.unknown, n=found.conversations, **where)
    yield Entry("outgrown", found.outgrown, **where)


def _utility(name: str, subject: Subject) -> Iterator[Entry]:
    for metric in ("perplexity", "word_perplexity", "reasoning"):
        if measure := getattr(subject, metric):
            yield _number(metric, measure, subject=name)
    for key, measure in subject.tasks.items():
        yield _number("task", measure, subject=name, key=key)
    by_key = {metric: getattr(subject, metric) or {} for metric in ("kl_to_student", "kl_to_teacher")}
    for metric, numbers in {**by_key, **subject.metrics}.items():
        for key, measure in numbers.items():
            yield _number(metric, measure, subject=name, key=key)


def _defence(defence: Defence, **where: Any) -> Iterator[Entry]:
    outcomes = defence.outcomes.model_dump()
    yield _number("dsr", defence.dsr, **where)
    for outcome, count in outcomes.items():
        yield Entry("outcome", count, n=sum(outcomes.values()), key=outcome, **where)
    if defence.early_differs is not None:
        yield Entry("early_differs", defence.early_differs, n=sum(outcomes.values()), **where)
    if short := defence.shortened:
        where |= {"key": str(short.tokens)}
        yield _number("short_dsr", short.dsr, **where)
        yield _number("short_agreement", short.agreement, **where)
        yield Entry("short_only", short.only_short, n=short.agreement.n, **where)
        yield Entry("whole_only", short.only_whole, n=short.agreement.n, **where)


def _evaluate(evaluate: EvaluateRecord) -> Iterator[Entry]:
    for comparison in evaluate.comparisons:
        yield from _comparison("dsr", "report", with_interval(comparison, evaluate))
    yield from _further_comparisons(evaluate)
    for comparison in evaluate.over_refusal_comparisons:
        yield from _comparison("over_refusal", "harmless", comparison)
    for change in evaluate.perplexity_comparisons:
        yield from _change(change)
    yield Entry("above_bar", evaluate.above_threshold, n=evaluate.hybrid.dsr.n, subject="hybrid", set="report")
    if evaluate.above_threshold_clusters is not None:
        yield Entry("above_bar_by_group", evaluate.above_threshold_clusters, subject="hybrid", set="report")
    yield from _control(evaluate.random, "random")
    if evaluate.random.equal_parameters:
        yield from _control(evaluate.random.equal_parameters, "random_parameters")
    if evaluate.confirmation:
        yield from _confirmation(evaluate.confirmation)
    yield from _judges(evaluate)
    yield from _layers(evaluate)


def _further_comparisons(evaluate: EvaluateRecord) -> Iterator[Entry]:
    """Yields comparisons of conversations, and of each model under attack."""
    for comparison in evaluate.conversation_comparisons:
        yield from _comparison("held", "conversations", comparison)
    for attack, models in evaluate.attacked.items():
        for subject, found in models.items():
            for comparison in found:
                yield from _comparison("dsr", attack, comparison, subject=subject, headline=False)


def _control(control: ControlRecord, metric: str) -> Iterator[Entry]:
    """Yields the numbers of random sets, and of the found set with its answers cut in the same way.

    Older records have only the DSRs.
    """
    where: dict[str, Any] = {"subject": "random", "set": "report"}
    if control.mean is not None:
        interval = control.interval
        low = NAN if interval is None or interval.low is None else interval.low
        high = NAN if interval is None or interval.high is None else interval.high
        yield Entry(f"{metric}_dsr", control.mean, low, high, len(control.dsr), **where)
    for draw, measure in enumerate(control.dsr):
        yield _number(f"{metric}_draw_dsr", measure, key=str(draw), **where)
    if control.found_dsr:
        yield _number(f"{metric}_found_dsr", control.found_dsr, **where | {"subject": "hybrid"})
    if control.p_value is not None:
        yield Entry(f"{metric}_p", control.p_value, n=len(control.dsr), **where)
        yield Entry(f"{metric}_reached", NAN if control.reached is None else control.reached, **where)


def _confirmation(confirmation: Confirmation) -> Iterator[Entry]:
    """Yields the results of `evaluate.confirm`: for the found set, and how many units are confirmed as needed."""
    of_set, *of_units = confirmation.claims
    where: dict[str, Any] = {"subject": "hybrid", "set": "report"}
    yield Entry("confirm_error_rate", confirmation.error_rate, **where)
    yield Entry("confirm_set", n=of_set.prompts, text=of_set.verdict, **where)
    confirmed = sum(claim.verdict == "confirmed" for claim in of_units)
    yield Entry("confirm_units", confirmed, n=len(of_units), **where)


def _judges(evaluate: EvaluateRecord) -> Iterator[Entry]:
    """Yields the agreement of judges on each model's answers, and, without a subject, on all answers."""
    by_subject: list[tuple[str, list[Agreement]]] = [("", evaluate.agreement), *evaluate.agreement_by_model.items()]
    for subject, found in by_subject:
        for agreed in found:
            where: dict[str, Any] = dict(zip(("judge", "key"), agreed.judges, strict=True))
            yield _number("agreement", agreed.agreement, subject=subject, headline=False, **where)
            if agreed.kappa is not None:
                n = agreed.agreement.n
                yield Entry("kappa", agreed.kappa, n=n, subject=subject, headline=False, **where)


def _layers(evaluate: EvaluateRecord) -> Iterator[Entry]:
    for side, layers in evaluate.change_by_layer.items():
        for layer in layers:
            yield _number("hidden_change", layer.hidden, subject="hybrid", set=side, key=str(layer.layer))
            if layer.attention:
                yield _number("attention_change", layer.attention, subject="hybrid", set=side, key=str(layer.layer))


def with_interval(comparison: Comparison, evaluate: EvaluateRecord) -> Comparison:
    """The comparison with Newcombe's interval, also for older records.

    Older records hold a bootstrap interval, which could have zero width. Newcombe's is computed from the counts if
    both models were judged on all rows; otherwise the interval is left out.
    """
    if comparison.clusters or not comparison.difference.n:
        return comparison
    ours, other = evaluate.hybrid, getattr(evaluate, comparison.against)
    n, both = comparison.difference.n, ours.outcomes.refused + ours.outcomes.harmless - comparison.gained
    neither = n - both - comparison.gained - comparison.lost
    known = ours.dsr.n == other.dsr.n == n and both >= 0 and neither >= 0
    bounds = newcombe(PairedTable(both, comparison.gained, comparison.lost, neither)) if known else (None, None)
    difference = comparison.difference.model_copy(update=dict(zip(("low", "high"), bounds, strict=True)))
    return comparison.model_copy(update={"difference": difference})


def _comparison(
    metric: str, rows: str, comparison: Comparison, subject: str = "hybrid", headline: bool = True
) -> Iterator[Entry]:
    where: dict[str, Any] = {
        "subject": subject,
        "against": comparison.against,
        "set": rows,
        "headline": headline,
    }
    yield _number(f"{metric}_change", comparison.difference, **where)
    if not comparison.difference.n:
        return
    yield Entry(f"{metric}_gained", comparison.gained, n=comparison.difference.n, **where)
    yield Entry(f"{metric}_lost", comparison.lost, n=comparison.difference.n, **where)
    yield Entry(f"{metric}_p", comparison.p_value, **where)
    if clusters := comparison.clusters:
        value = comparison.difference.value
        yield Entry(f"{metric}_change_by_group", value, clusters.low, clusters.high, clusters.groups, **where)
        yield Entry(f"{metric}_change_design_effect", clusters.design_effect, **where)
        if clusters.p_value is not None:
            yield Entry(f"{metric}_p_by_group", clusters.p_value, n=clusters.groups, **where)


def _change(change: PerplexityComparison) -> Iterator[Entry]:
    where: dict[str, Any] = {"subject": "hybrid", "against": change.against}
    yield _number("perplexity_change", change.difference, **where)
    if change.p_value is not None:
        yield Entry("perplexity_p", change.p_value, **where)


def _number(metric: str, measure: Measure, **where: Any) -> Entry:
    """The entry of a measure. It has no value if n is 0, for example if all verdicts of a judge failed."""
    low, high = (NAN if bound is None else bound for bound in (measure.low, measure.high))
    value = (measure.value, low, high) if measure.n else (NAN, NAN, NAN)
    return Entry(metric, *value, n=measure.n, **where)
