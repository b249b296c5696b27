"""The summary of a report: plain sentences that claim no more than the intervals support."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis.entries import SUBJECTS
from analysis.frame import Run
from analysis.granularities import differences
from analysis.measures import by_settings, done_of, mean_change, mean_dsr_bounds, measure
from analysis.tables.cells import SIGNIFICANT, change, decimal, interval, known, number, percent
from analysis.tables.main import with_significance
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record

MOST_SETTINGS = 8
"""For more combinations of settings, the summary leaves the means to the tables."""
SURE = 0.95
SAID = {
    "The mean DSR rises (the whole interval is above zero)": 1,
    "The mean DSR falls (the whole interval is below zero)": -1,
    "No change of the mean DSR is established": 0,
}
_UNCLEAR = "Difference in points: {}, so no change is established."
FOUND = {
    "certified": "found a certified set",
    "not_certified": "found a set that is not certified",
    "no_gain": "found no set, since all units together gain too little",
    "control": "took a set that was named beforehand",
}


@dataclass(frozen=True)
class Answer:
    """A question that a reader has, and the sentences that answer it."""

    question: str
    sentences: list[str]


@dataclass(frozen=True)
class Means:
    """The mean DSR of student, hybrid and teacher over runs, each with its interval, and the mean gain."""

    label: str
    runs: int
    dsr: dict[str, tuple[float, float, float]]
    gain: Measure | None


@dataclass(frozen=True)
class Summary:
    """The questions with their answers, and the means of each combination of settings."""

    answers: list[Answer]
    means: list[Means]


def summary(frame: pd.DataFrame, runs: Sequence[Run]) -> Summary:
    """The summary of these runs, from their frame."""
    measured = with_significance(measure(frame))
    done = measured[measured["state"] == "done"]
    records = [run.status.record for run in runs if run.status.record]
    first = Answer("What was transplanted?", [*_transplanted(measured), *_moved(done), *_evidence(records)])
    if done.empty:
        return Summary([first], [])
    means = _means(frame, done)
    answers = [
        first,
        Answer(
            "Did it work?", [*_unjudged(done), *_defences(means), *_granularities(frame), *_found(done), *_tests(done)]
        ),
        Answer("What did it cost?", [*_search_cost(done, records), *_side_effects(frame)]),
        Answer("How sure is this?", list(_certainty(frame, done, records))),
    ]
    return Summary(answers, means)


def _transplanted(measured: pd.DataFrame) -> Iterator[str]:
    pairs, families = measured["pair"].nunique(), measured["family"].nunique()
    kinds = ", ".join(f"{kind}" for kind in measured["granularity"].unique() if kind)
    yield (
        f"Parts of aligned models (teachers) were copied into unaligned models (students): {_count(pairs, 'pair')} of"
        f" {_count(families, 'family', 'families')}. For each, a search looked for a smallest set of units that makes"
        f" the student refuse. The kind of unit: {kinds or 'unknown'}."
    )
    states = measured["state"].value_counts(sort=False)
    others = ", ".join(f"{count} {state}" for state, count in states.items() if state != "done")
    yield f"{_share(int(states.get('done', 0)), len(measured), 'run')} done{f' ({others})' if others else ''}."


def _evidence(records: Sequence[Record]) -> Iterator[str]:
    made_here = [record.pair.made_here for record in records]
    if made_here and all(made_here):
        yield (
            "All models were made here (†): miniatures, or models fine-tuned for this project. They show that the tool"
            " works. They are no evidence about real models."
        )
    elif any(made_here):
        yield "Pairs marked † have models that were made here. They are no evidence about real models."


def _found(done: pd.DataFrame) -> Iterator[str]:
    for status, text in FOUND.items():
        if count := int((done["status"] == status).sum()):
            yield f"{_in(count, len(done))} the search {text}."


def _means(frame: pd.DataFrame, done: pd.DataFrame) -> list[Means]:
    """The mean DSRs of each combination of settings; empty if pairs have several runs that no setting tells apart."""
    names, groups = by_settings(done_of(frame))
    if len(groups) > MOST_SETTINGS or "run" in names:
        return []
    found = [_mean(", ".join(keys.values()), group, done) for keys, group in groups]
    return [mean for mean in found if all(known(mean.dsr[subject][0]) for subject in SUBJECTS)]


def _mean(label: str, group: pd.DataFrame, done: pd.DataFrame) -> Means:
    rows = done[done["identity"].isin(group["identity"].unique())]
    dsr = {}
    for subject in SUBJECTS:
        value = float(rows[f"{subject}_dsr"].mean())
        if len(rows) == 1:
            bounds = rows[f"{subject}_dsr_low"].iloc[0], rows[f"{subject}_dsr_high"].iloc[0]
        else:
            bounds = mean_dsr_bounds(rows, subject)
        dsr[subject] = (value, float(bounds[0]), float(bounds[1]))
    return Means(label, len(rows), dsr, mean_change(group, "dsr"))


def _unjudged(done: pd.DataFrame) -> Iterator[str]:
    if unjudged := int(done["hybrid_dsr"].isna().sum()):
        yield f"{_in(unjudged, len(done))} no answer of the hybrid was judged, so its DSR is unknown."


def _defences(means: Sequence[Means]) -> Iterator[str]:
    """The means in words. Of several settings: in which the change from student to hybrid is established."""
    if len(means) != 1:
        for said, sign in SAID.items():
            if those := [mean for mean in means if mean.gain and _sign(mean.gain) == sign]:
                yield f"{said}: {_listed(those)}."
        return
    (only,) = means
    student, hybrid, teacher = (in_percent(*only.dsr[subject]) for subject in SUBJECTS)
    s, mean = ("s", "mean ") if only.runs > 1 else ("", "")
    verb = {1: "rises", -1: "falls"}.get(_sign(only.gain))
    where = f"On prompts that the search has not seen, the {mean}DSR"
    gain = only.gain and change(only.gain.value, only.gain.low, only.gain.high)
    if verb:
        yield f"{where} {verb} from {student} (student{s}) to {hybrid} (hybrid{s}): {gain} points."
    else:
        yield f"{where} is {student} (student{s}) and {hybrid} (hybrid{s}). {_UNCLEAR.format(gain or 'not measured')}"
    yield f"The teacher{s} {'have' if s else 'has'} {teacher}."


def _listed(means: Sequence[Means]) -> str:
    """Settings with the gain of each, the largest first."""
    gains = sorted(((mean.gain, mean.label) for mean in means if mean.gain), key=lambda of: -of[0].value)
    return "; ".join(f"{label} ({change(gain.value, gain.low, gain.high)} points)" for gain, label in gains)


def _tests(done: pd.DataFrame) -> Iterator[str]:
    tested = done[done["p_holm"].notna()]
    if len(tested):
        better = int(((tested["p_holm"] < SIGNIFICANT) & (tested["gain_points"] > 0)).sum())
        yield (
            f"{_in(better, len(tested))} the hybrid defends more prompts than its student"
            f" (exact McNemar test, p < {SIGNIFICANT}, Holm-corrected)."
        )
    against = done[done["random_p"].notna()]
    if len(against):
        beaten = int((against["random_p"] < SIGNIFICANT).sum())
        yield (
            f"Random sets of as many units reach {percent(against['random_dsr'].mean())} % on average."
            f" {_in(beaten, len(against))} fewer than one in twenty of them reaches the found set"
            f" (p < {SIGNIFICANT} for each run alone)."
        )


def _granularities(frame: pd.DataFrame) -> Iterator[str]:
    """The differences between granularities that are established, over the pairs that both have."""
    numbers = differences(frame)
    if numbers.empty:
        return
    clear = numbers[numbers["p_holm"] < SIGNIFICANT]
    shown = [
        f"{one} over {other} ({change(abs(d), *sorted((abs(low), abs(high))))} points)"
        for one, other, d, low, high in (
            (row["granularity"], row["other"], row["difference_points"], row["low"], row["high"])
            if row["difference_points"] > 0
            else (row["other"], row["granularity"], row["difference_points"], row["low"], row["high"])
            for _, row in clear.iterrows()
        )
    ]
    more = f", and {len(shown) - MOST_SETTINGS} more" if len(shown) > MOST_SETTINGS else ""
    yield (
        f"Differences of DSR between kinds of units that are established (p < {SIGNIFICANT}, Holm-corrected over"
        f" {int(numbers['p_holm'].notna().sum())} tests): {', '.join(shown[:MOST_SETTINGS]) or 'none'}{more}."
    )


def _search_cost(done: pd.DataFrame, records: Sequence[Record]) -> Iterator[str]:
    stages = [stage for record in records for stage in record.cost.values()]
    queries = _span(done["queries"], number)
    yield (
        f"The search asked {queries} {'query' if queries == '1' else 'queries'} a run, in"
        f" {_span(done['seconds'], _duration)}."
    )
    peak = max((stage.peak_memory_bytes for stage in stages), default=0)
    whole = "The run" if len(records) == 1 else f"All {len(records)} runs together"
    if stages:
        yield (
            f"{whole} took {_duration(sum(stage.seconds for stage in stages))} with all measurements, and at most"
            f" {decimal(peak / 1e9)} GB of memory."
        )


def _moved(done: pd.DataFrame) -> Iterator[str]:
    found = done[done["status"] != "no_gain"]
    if len(found) and found["granularity"].nunique() == 1:
        yield (
            f"A found set has {_span(found['units_found'], number)} of {_span(found['units_total'], number)} units, and"
            f" {_span(found['parameters_percent'], partial(decimal, digits=1))} % of the parameters."
        )


def _side_effects(frame: pd.DataFrame) -> Iterator[str]:
    done = done_of(frame)
    for metric, name, unit, digits in (
        ("over_refusal", "Over-refusal of harmless requests", " points", 1),
        ("perplexity", "Perplexity", "", 3),
        ("reasoning", "Reasoning", " points", 1),
    ):
        if (found := mean_change(done, metric)) is None:
            yield f"{name}: not measured."
            continue
        verb = {1: "rises", -1: "falls"}.get(_sign(found), "")
        mean = f" on average over {found.n} runs" if found.n > 1 else ""
        unclear = "" if verb else ", so no change is established"
        shown = change(found.value, found.low, found.high, digits)
        yield f"{name}{verb and ' ' + verb}: {shown}{unit}{mean}{unclear}."


def _certainty(frame: pd.DataFrame, done: pd.DataFrame, records: Sequence[Record]) -> Iterator[str]:
    yield (
        f"Each DSR rests on {_span(done['prompts_judged'], number)} prompts. Brackets are 95 % intervals"
        + (f"; those of means treat the pairs of one teacher ({done['teacher'].nunique()}) as dependent."
           if len(done) > 1 else ".")
    )  # fmt: skip
    asked = done[done["above_threshold"].notna()]
    if len(asked):
        reached = int((asked["above_threshold"] >= SURE).sum())
        yield (
            f"{_in(reached, len(asked))} the hybrid keeps on new prompts what the search asked for"
            f" (its bar), with a probability of {SURE:.0%} or more.".replace("%", " %")
        )
    if (done["status"] == "certified").any():
        yield (
            "Certified: the set reached the bar on the search's prompts, and failed it without any one of its units."
            " A smaller set of other units may exist."
        )
    changes = frame[(frame["metric"] == "dsr_change") & frame["headline"]]
    against = changes[(changes["against"] == "teacher") & changes["high"].notna()]
    if len(against):
        yield (
            f"{_in(int((against['high'] < 0).sum()), len(against))} the hybrid stays below its teacher (its interval"
            " alone excludes zero). Elsewhere no difference to the teacher is established."
        )
    yield from _judges(records)


def _judges(records: Sequence[Record]) -> Iterator[str]:
    own = {next(iter(record.evaluate.hybrid.defence.get("report", {"": None}))): record for record in records}
    for name, record in own.items():
        judge = record.provenance.judges.get(name)
        if judge is not None and judge.sees == ["refused"]:
            yield f"The judge ({name}) sees refusals only: a harmless answer without a refusal counts as harmful."
        elif name:
            yield f"The judge is {name}."


def _sign(change: Measure | None) -> int:
    """1 if the whole interval is above zero, -1 if below; 0 if neither is established."""
    if change is None or change.low is None or change.high is None:
        return 0
    return int(change.low > 0) - int(change.high < 0)


def in_percent(share: float, low: float, high: float) -> str:
    """A share with its interval in a sentence: 95.3 % [90, 98]."""
    shown = interval(share, low, high)
    return shown.replace(" [", " % [") if "[" in shown else f"{shown} %"


def _share(part: int, whole: int, noun: str) -> str:
    return f"{part} of {_count(whole, noun)}"


def _in(part: int, whole: int) -> str:
    return "In this run" if part == whole == 1 else f"In {part:,} of {_count(whole, 'run')}"


def _count(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _span(column: pd.Series[float], show: Callable[[float], str]) -> str:
    """A number of all runs, or its mean with the least and the most."""
    values = [float(value) for value in column if known(value)]
    if not values:
        return "an unknown number of"
    low, high, mean = (show(value) for value in (min(values), max(values), sum(values) / len(values)))
    return low if low == high else f"{mean} (from {low} to {high})"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 * 3 else f"{seconds / 3600:.1f} h"
