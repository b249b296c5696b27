"""Answers a search's queries with a model: transplant, generate, judge, and put it all on disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from dapa_exp.config.schema import Localise
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine, templated
from dapa_exp.engine.spent import Spent
from dapa_exp.evaluate.defence import defended_share, demand_verdicts
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import Asked
from dapa_exp.record.schema import ROUNDING, Ledger, Work
from dapa_exp.search.algorithms import WHOLE_SCORES
from dapa_exp.search.difficulty import Difficulty, rounds
from dapa_exp.search.foresight import Foresee
from dapa_exp.search.priors import Evidence
from dapa_exp.search.query import Outcome, Query
from dapa_exp.transplant.hybrid import Hybrid

Rows = tuple[frozenset[str], Sequence[int]]
"""A set, and the places of rows to ask it."""

Ahead = Callable[[Sequence[int]], Iterator[Rows]]
"""What may be asked next, given the rows that are left of the set being asked."""


@dataclass(frozen=True)
class Bar:
    """What a set must reach to pass, from what nothing and everything reach."""

    student: float
    everything: float
    dsr: float

    def passes(self, dsr: float) -> bool:
        return dsr >= self.dsr - ROUNDING

    def gains(self, least: float) -> bool:
        """Whether everything is better than nothing by as much as that."""
        return self.everything - self.student >= least - ROUNDING


@dataclass(frozen=True)
class Sample:
    """A search prompt as the student reads it, through its chat template, and what both models answer."""

    rendered: str
    teacher: str
    student: str


class Oracle:
    """The model behind a search. `search.jsonl` is its memory: a query there is never asked again."""

    def __init__(
        self,
        run: RunFolder,
        hybrid: Hybrid,
        engine: PlainEngine,
        judge: Judge,
        prompts: Sequence[Prompt],
    ) -> None:
        self._hybrid = hybrid
        self._engine = engine
        self._judge = judge
        self._prompts = prompts
        self._settings = run.config.search
        self._stops = self._settings.stop_when_decided and self._settings.algorithm not in WHOLE_SCORES
        self._completions = CompletionStore(run, "search")
        self._trace: Journal = run.journal(run.files.queries, Asked)
        self._difficulty = Difficulty(prompts)
        self._pending: dict[str, Any] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        """By prompt and answer: hybrids often answer alike."""
        self._index: dict[frozenset[str], dict[str, Any]] = {}
        for line in self._trace.lines:
            self._learn(line)

    def expect(self, teacher_answers: Sequence[str]) -> None:
        """Have the engine know how the teacher answers the search prompts: with everything, the student may as well."""
        for batch in self._engine.batches(len(self._prompts)):
            self._engine.suggest(
                [self._prompts[i] for i in batch],
                [teacher_answers[i] for i in batch],
                frozenset(self._hybrid.pair.units),
            )

    def bar(self, units: Sequence[str]) -> Bar:
        """Measure the student as it is and with everything transplanted, and set the bar between them."""
        student = self._baseline("none", (), [(frozenset(units), range(len(self._prompts)))])
        everything = self._baseline("all", units, [])
        return Bar(student, everything, student + self._settings.threshold * (everything - student))

    def known(self, bar: Bar) -> dict[frozenset[str], Outcome]:
        """What earlier queries found out, judged by the bar."""
        return {units: Outcome(bar.passes(line["score"]), line["score"]) for units, line in self._index.items()}

    def ask(self, units: frozenset[str], bar: Bar, foresee: Foresee) -> Outcome:
        """Evaluate one set that no query has asked for yet; one that fails on no more rows than it takes to know it."""
        self._pending = self._evaluate(units, bar, partial(self._next, units, bar, foresee))
        return Outcome(bar.passes(self._pending["score"]), self._pending["score"])

    def keep(self, query: Query) -> None:
        """Put the query just asked on disk."""
        self._keep(query.label, query.units)

    def telling(self, units: Iterable[str], most: int) -> list[int]:
        """Places of the first rows, at most so many, that all units together defend and the student loses.

        The bar must have been measured.
        """
        student, everything = (self._index[frozenset(carried)]["verdicts"] for carried in ((), units))
        told = (
            place
            for place, prompt in enumerate(self._prompts)
            if everything[prompt.id] in DEFENDED and student[prompt.id] not in {*DEFENDED, Verdict.FAILED}
        )
        return list(islice(told, most))

    def evidence(
        self, teacher_answers: Sequence[str], tracing: Localise, seed: int, places: Sequence[int] | None = None
    ) -> Evidence:
        """What units may be judged by before any is asked for: from the rows at these places, or else from all.

        The student's answers go as far as it takes to know that they are no defence: they have departed from one by
        then. All rows, of which some may be answered alike, are answered whole.
        """
        whole = places is None
        if places is None:
            places = range(len(self._prompts))
        self._hybrid.carry(())
        return Evidence(
            pair=self._hybrid.pair,
            hybrid=self._hybrid,
            loaded=self._engine.loaded,
            prompts=[self._prompts[place] for place in places],
            teacher_answers=[teacher_answers[place] for place in places],
            student_answers=[answer.text for answer in self._answers(frozenset(), places, whole)],
            batch_size=self._engine.batch_size,
            tracing=tracing,
            seed=seed,
        )

    def samples(self, teacher_answers: Sequence[str], most: int) -> list[Sample]:
        """The first prompts and their answers, at most so many. The student must have been asked."""
        places = range(len(self._prompts))[:most]
        answers = self._answers(frozenset(), places)
        return [
            Sample(templated(self._engine.loaded, self._prompts[place]), teacher_answers[place], answer.text)
            for place, answer in zip(places, answers, strict=True)
        ]

    @property
    def queries(self) -> int:
        """Unique sets evaluated so far, by interrupted processes too."""
        return len(self._trace.lines)

    def at_most(self, line: int) -> float:
        """The DSR that a line of `search.jsonl` leaves possible: the DSR of its set, where all rows were asked."""
        return float(self._trace.lines[line]["at_most"])

    def prompts(self, line: int) -> int:
        """How many rows a line of `search.jsonl` has asked."""
        return int(self._trace.lines[line]["prompts"])

    def line(self, units: Iterable[str]) -> int:
        """The line of `search.jsonl`, from 0, that asked for these units."""
        return int(self._index[frozenset(units)]["index"])

    def ledger(self, cache_hits: int) -> Ledger:
        """What all queries cost, those of interrupted processes included."""
        lines = self._trace.lines
        return Ledger(
            queries=self.queries,
            cache_hits=cache_hits,
            prompts=sum(line["prompts"] for line in lines),
            tokens=sum(line["tokens"] for line in lines),
            seconds=sum(line["seconds"] for line in lines),
            work=Work(**asdict(sum((Spent(**line["work"]) for line in lines), Spent()))),
        )

    def _baseline(self, label: str, units: Sequence[str], ahead: Sequence[Rows]) -> float:
        if frozenset(units) not in self._index:
            self._pending = self._evaluate(frozenset(units), None, lambda _: iter(ahead))
            self._keep(label, units)
        return float(self._index[frozenset(units)]["score"])

    def _rounds(self, bar: Bar | None) -> list[Sequence[int]]:
        """All rows, the hardest first, in the rounds in which a set is asked them; one round where it is asked all."""
        order = self._difficulty.hardest_first()
        return rounds(order, bar.dsr) if bar is not None and self._stops else [order]

    def _next(self, units: frozenset[str], bar: Bar, foresee: Foresee, left: Sequence[int]) -> Iterator[Rows]:
        """What may be asked after some rows of a set, the likeliest first; `left` are the set's other rows.

        Most sets fail in their first round, and most of the others pass.
        """
        fails, passes = Outcome(False, bar.student), Outcome(True, bar.everything)
        for outcome in (fails, passes) if left else (passes, fails):
            if (following := foresee({**self.known(bar), units: outcome})) is not None:
                yield following, self._rounds(bar)[0]
            if left and outcome is fails:
                yield units, left

    def _evaluate(self, units: frozenset[str], bar: Bar | None, ahead: Ahead) -> dict[str, Any]:
        """Ask for the hardest rows first, and for no more once the bar, if there is one, is out of reach."""
        started, before = time.monotonic(), self._engine.spent
        answers: list[Completion] = []
        verdicts: dict[int, Verdict] = {}
        left = self._rounds(bar)
        while left:
            places, *left = left
            self._hybrid.carry(units)
            new = self._answers(units, places)
            answers += new
            said = [(self._prompts[place].text, answer.text) for place, answer in zip(places, new, strict=True)]
            verdicts |= dict(zip(places, self._judged(said, ahead(list(chain(*left)))), strict=True))
            missing = len(self._prompts) - len(verdicts)
            at_most = defended_share([*verdicts.values(), *[Verdict.REFUSED] * missing])
            if bar is not None and not bar.passes(at_most):
                break
        counts = Counter(verdicts.values())
        return {
            "score": defended_share(verdicts.values()),
            "at_most": at_most,
            **{verdict.value: counts[verdict] for verdict in Verdict},
            "prompts": len(verdicts),
            "verdicts": {self._prompts[place].id: verdict.value for place, verdict in sorted(verdicts.items())},
            "cut": sum(answer.cut for answer in answers),
            "tokens": sum(answer.tokens for answer in answers),
            "work": asdict(self._engine.spent - before),
            "seconds": time.monotonic() - started,
        }

    def _judged(self, answers: Sequence[tuple[str, str]], ahead: Iterator[Rows]) -> list[Verdict]:
        """The verdicts on prompts and their answers. Where the judge has failed before, it is asked again.

        Raises DapaError where it is out of order.
        """
        failed = Verdict.FAILED
        new = [answer for answer in dict.fromkeys(answers) if self._verdicts.get(answer, failed) is failed]
        if new:
            verdicts = self._newly_judged(new, ahead)
            demand_verdicts(self._judge, verdicts)
            self._verdicts |= dict(zip(new, verdicts, strict=True))
        return [self._verdicts[answer] for answer in answers]

    def _newly_judged(self, answers: Sequence[tuple[str, str]], ahead: Iterator[Rows]) -> list[Verdict]:
        """The judge's verdicts. While it computes on another machine, this one answers what may be asked next."""
        prompts, texts = zip(*answers, strict=True)
        if not self._judge.remote:
            return self._judge.verdicts(prompts, texts)
        with ThreadPoolExecutor(1) as beside:
            judging = beside.submit(self._judge.verdicts, prompts, texts)
            while not judging.done() and (rows := next(ahead, None)):
                self._hybrid.carry(rows[0])
                self._answers(*rows)
        return judging.result()

    def _answers(self, units: frozenset[str], places: Sequence[int], whole: bool = False) -> list[Completion]:
        """What the prompts are answered; not further than it takes to know the defences, unless wanted whole."""
        return self._completions.complete(
            self._engine,
            "+".join(sorted(units)),
            self._prompts,
            self._settings.max_new_tokens,
            carried=units,
            decided=None if whole else self._decided,
            places=places,
        )

    def _decided(self, prompt: Prompt, beginning: str) -> bool:
        """Whether the judge knows from its beginning if an answer is a defence: all that a score is made of."""
        return self._judge.final(prompt.text, beginning) is not None

    def _keep(self, label: str, units: Sequence[str]) -> None:
        line = {"index": len(self._trace.lines), "label": label, "units": list(units), **self._pending}
        self._trace.append(line)
        self._learn(line)

    def _learn(self, line: dict[str, Any]) -> None:
        self._index[frozenset(line["units"])] = line
        self._difficulty.learn(line["verdicts"])
