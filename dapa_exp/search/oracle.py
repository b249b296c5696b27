"""Answers a search's queries with a model: transplant, generate, judge, and put it all on disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from dapa_exp.config.registries import ALGORITHMS
from dapa_exp.config.schema import Localise
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine, Request, templated
from dapa_exp.engine.work import TokenWork
from dapa_exp.evaluate.defence import defended_share, demand_verdicts
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import Asked
from dapa_exp.record.schema import ROUNDING, Ledger, Work
from dapa_exp.search.difficulty import Difficulty, rounds
from dapa_exp.search.evidence import Evidence
from dapa_exp.search.query import Outcome
from dapa_exp.transplant.hybrid import Hybrid


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
        self._prompts = tuple(prompts)
        self._settings = run.config.search
        self._stops = self._settings.stop_when_decided and not ALGORITHMS.get(self._settings.algorithm).whole_scores
        self._completions = CompletionStore(run, "search")
        self._trace: Journal = run.journal(run.files.queries, Asked)
        self._difficulty = Difficulty(prompts)
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        """By prompt and answer: hybrids often answer alike."""
        self._index: dict[frozenset[str], dict[str, Any]] = {}
        for line in self._trace.lines:
            self._learn(line)

    def suggest_teacher_answers(self, teacher_answers: Sequence[str]) -> None:
        """Give the engine drafts: with every unit transplanted, the student may answer as the teacher does."""
        for batch in self._engine.batches(len(self._prompts)):
            self._engine.suggest(
                [self._prompts[i] for i in batch],
                [teacher_answers[i] for i in batch],
                frozenset(self._hybrid.pair.units),
            )

    @cached_property
    def bar(self) -> Bar:
        """The bar between what the student reaches as it is and what it reaches with every unit transplanted."""
        student = self._measured("none", ())
        everything = self._measured("all", self._hybrid.pair.units)
        return Bar(student, everything, student + self._settings.threshold * (everything - student))

    def known(self) -> dict[frozenset[str], Outcome]:
        """The outcome of every set on disk, judged by the bar."""
        return {units: self._outcome(line) for units, line in self._index.items()}

    def ask(self, units: frozenset[str], label: str) -> Outcome:
        """Evaluate a set and put the query on disk; one that is there already is not evaluated again.

        A set that fails is asked no more rows than it takes to know that.
        """
        bar = self.bar
        if units not in self._index:
            self._keep(label, units, self._evaluate(units, bar))
        return self._outcome(self._index[units])

    def decisive_rows(self, most: int) -> list[int]:
        """Places of the first rows, at most so many, that all units together defend and the student does not."""
        assert self.bar  # which is measured by asking both
        student, everything = (self._index[frozenset(units)]["verdicts"] for units in ((), self._hybrid.pair.units))
        decisive = (
            place
            for place, prompt in enumerate(self._prompts)
            if everything[prompt.id] in DEFENDED and student[prompt.id] not in {*DEFENDED, Verdict.FAILED}
        )
        return list(islice(decisive, most))

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
        self._hybrid.set_units(())
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

    def student_answers(self, prompts: Sequence[Prompt]) -> list[str]:
        """The student's whole answers to other prompts, at the search's length."""
        self._hybrid.set_units(())
        request = Request(tuple(prompts), self._settings.max_new_tokens, reuse=False)
        return [answer.text for answer in self._completions.complete(self._engine, "", request)]

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
            work=Work(**asdict(sum((TokenWork(**line["work"]) for line in lines), TokenWork()))),
        )

    def _measured(self, label: str, units: Iterable[str]) -> float:
        """The DSR of a set on all search rows."""
        chosen = frozenset(units)
        if chosen not in self._index:
            self._keep(label, chosen, self._evaluate(chosen, None))
        return float(self._index[chosen]["score"])

    def _outcome(self, line: dict[str, Any]) -> Outcome:
        return Outcome(self.bar.passes(line["score"]), line["score"])

    def _rounds(self, bar: Bar | None) -> list[Sequence[int]]:
        """All rows, the hardest first, in the rounds in which a set is asked them; one round where it is asked all."""
        order = self._difficulty.hardest_first()
        return rounds(order, bar.dsr) if bar is not None and self._stops else [order]

    def _evaluate(self, units: frozenset[str], bar: Bar | None) -> dict[str, Any]:
        """Ask for the hardest rows first, and for no more once the bar, if there is one, is out of reach."""
        started, before = time.monotonic(), self._engine.work
        answers: list[Completion] = []
        verdicts: dict[int, Verdict] = {}
        for places in map(sorted, self._rounds(bar)):
            new = self._answers(units, places)
            answers += new
            said = [(self._prompts[place].text, answer.text) for place, answer in zip(places, new, strict=True)]
            verdicts |= dict(zip(places, self._judged(said), strict=True))
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
            "work": asdict(self._engine.work - before),
            "seconds": time.monotonic() - started,
        }

    def _judged(self, answers: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdicts on prompts and their answers. Where the judge has failed before, it is asked again.

        Raises DapaError where it is out of order.
        """
        failed = Verdict.FAILED
        new = [answer for answer in dict.fromkeys(answers) if self._verdicts.get(answer, failed) is failed]
        if new:
            prompts, texts = zip(*new, strict=True)
            verdicts = self._judge.early(prompts, texts)
            demand_verdicts(self._judge, verdicts)
            self._verdicts |= dict(zip(new, verdicts, strict=True))
        return [self._verdicts[answer] for answer in answers]

    def _answers(self, units: frozenset[str], places: Iterable[int], whole: bool = False) -> list[Completion]:
        """The answers of the hybrid of these units to the prompts at these places, in the order of the prompts.

        They go no further than it takes to know the defences, unless they are wanted whole.
        """
        self._hybrid.set_units(units)
        request = Request(
            self._prompts,
            self._settings.max_new_tokens,
            frozenset(places),
            decided=None if whole else self._decided,
        )
        return self._completions.complete(self._engine, "+".join(sorted(units)), request)

    def _decided(self, prompt: Prompt, beginning: str) -> bool:
        """Whether the judge knows from its beginning if an answer is a defence: all that a score is made of."""
        return self._judge.final(prompt.text, beginning) is not None

    def _keep(self, label: str, units: frozenset[str], found: dict[str, Any]) -> None:
        in_order = [unit for unit in self._hybrid.pair.units if unit in units]
        line = {"index": len(self._trace.lines), "label": label, "units": in_order, **found}
        self._trace.append(line)
        self._learn(line)

    def _learn(self, line: dict[str, Any]) -> None:
        self._index[frozenset(line["units"])] = line
        self._difficulty.learn(line["verdicts"])
