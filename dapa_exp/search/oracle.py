"""Answers a search's queries with a model: transplant, generate, judge, and put it all on disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from dapa_exp.config.schema import Localise
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.engine.spent import Spent
from dapa_exp.evaluate.defence import defended_share
from dapa_exp.evaluate.judges import DEFENDED, Judge, Verdict
from dapa_exp.evaluate.prompts import Prompt
from dapa_exp.record.folder import JsonLines, RunFolder
from dapa_exp.record.schema import Ledger, Work
from dapa_exp.search.algorithms import WHOLE_SCORES
from dapa_exp.search.difficulty import Difficulty, rounds
from dapa_exp.search.priors import Evidence
from dapa_exp.search.query import Outcome, Query
from dapa_exp.transplant.hybrid import Hybrid


@dataclass(frozen=True)
class Bar:
    """What a set must reach to pass, from what nothing and everything reach."""

    student: float
    everything: float
    dsr: float

    @property
    def gain(self) -> float:
        return self.everything - self.student


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
        self._trace: JsonLines = run.lines("search.jsonl")
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
        student, everything = self._baseline("none", ()), self._baseline("all", units)
        return Bar(student, everything, student + self._settings.threshold * (everything - student))

    def known(self, bar: Bar) -> dict[frozenset[str], Outcome]:
        """What earlier queries found out, judged by the bar."""
        return {units: Outcome(line["score"] >= bar.dsr, line["score"]) for units, line in self._index.items()}

    def ask(self, units: frozenset[str], bar: Bar) -> Outcome:
        """Evaluate one set that no query has asked for yet; one that fails on no more rows than it takes to know it."""
        self._pending = self._evaluate(units, bar.dsr if self._stops else None)
        return Outcome(self._pending["score"] >= bar.dsr, self._pending["score"])

    def keep(self, query: Query) -> None:
        """Put the query just asked on disk."""
        self._keep(query.label, query.units)

    def telling(self, units: Iterable[str], most: int) -> list[int]:
        """Places of the first rows, at most so many, that all units together defend and the student does not.

        The bar must have been measured.
        """
        without, everything = (self._index[frozenset(carried)]["verdicts"] for carried in ((), units))
        told = (
            place
            for place, prompt in enumerate(self._prompts)
            if everything[prompt.id] in DEFENDED and without[prompt.id] not in DEFENDED
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

    def _baseline(self, label: str, units: Sequence[str]) -> float:
        if frozenset(units) not in self._index:
            self._pending = self._evaluate(frozenset(units), None)
            self._keep(label, units)
        return float(self._index[frozenset(units)]["score"])

    def _evaluate(self, units: frozenset[str], bar: float | None) -> dict[str, Any]:
        """Ask for the hardest rows first, and for no more once the bar, if there is one, is out of reach."""
        started, before = time.monotonic(), self._engine.spent
        self._hybrid.carry(units)
        answers: list[Completion] = []
        verdicts: dict[int, Verdict] = {}
        order = self._difficulty.hardest_first()
        for places in [order] if bar is None else rounds(order, bar):
            new = self._answers(units, places)
            answers += new
            said = [(self._prompts[place].text, answer.text) for place, answer in zip(places, new, strict=True)]
            verdicts |= dict(zip(places, self._judged(said), strict=True))
            missing = len(order) - len(verdicts)
            at_most = defended_share([*verdicts.values(), *[Verdict.REFUSED] * missing])
            if bar is not None and at_most < bar:
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

    def _judged(self, answers: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdicts on prompts and their answers. Where the judge has failed before, it is asked again."""
        failed = Verdict.FAILED
        new = [answer for answer in dict.fromkeys(answers) if self._verdicts.get(answer, failed) is failed]
        if new:
            self._verdicts |= dict(zip(new, self._judge.verdicts(*zip(*new, strict=True)), strict=True))
        return [self._verdicts[answer] for answer in answers]

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
