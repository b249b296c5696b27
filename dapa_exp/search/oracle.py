"""Answers a search's queries with a model: it transplants, generates, judges, and writes each query to disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from dapa_exp.config.registries import ALGORITHMS
from dapa_exp.config.search import Localise
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine, Request, templated
from dapa_exp.evaluate.defence import defended_share, demand_verdicts
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal, Line
from dapa_exp.record.layout import QueryLine
from dapa_exp.record.measure import ROUNDING
from dapa_exp.search.difficulty import Difficulty, rounds
from dapa_exp.search.evidence import Evidence
from dapa_exp.search.query import Outcome
from dapa_exp.transplant.hybrid import Hybrid


@dataclass(frozen=True)
class Bar:
    """The DSR that a set must reach to pass. It lies between the student's DSR and the DSR of all units together."""

    student: float
    everything: float
    dsr: float

    def passes(self, dsr: float) -> bool:
        return dsr >= self.dsr - ROUNDING

    def gains(self, least: float) -> bool:
        """Whether all units together raise the student's DSR by at least this much."""
        return self.everything - self.student >= least - ROUNDING


@dataclass(frozen=True)
class Sample:
    """A search prompt in the student's chat template, and both models' answers to it."""

    rendered: str
    teacher: str
    student: str


class Oracle:
    """The model behind a search. It never evaluates a query again that is in `search.jsonl`."""

    def __init__(
        self,
        run: RunFolder,
        hybrid: Hybrid,
        engine: PlainEngine,
        judge: Judge,
        prompts: Sequence[Prompt],
        student: int = 1,
    ) -> None:
        """`student` counts the students that one set is to serve. Each has its own files."""
        self._hybrid = hybrid
        self._engine = engine
        self._judge = judge
        self._prompts = tuple(prompts)
        self._settings = run.config.search
        self.stops = self._settings.stop_when_decided and not ALGORITHMS.get(self._settings.algorithm).whole_scores
        """Whether a query ends once its set must fail."""
        self._completions = CompletionStore(run, "search", *([str(student)] if student > 1 else []))
        self._trace: Journal = run.journal(run.files.queries_of(student), QueryLine)
        self._difficulty = Difficulty(prompts)
        self._longer = CompletionStore(run, "search", "longer") if self._settings.longer_tokens else None
        self._verdicts: dict[tuple[str, str, bool], Verdict] = {}
        """Verdicts by prompt, answer and whether it was read whole, because hybrids often give the same answers."""
        self._index: dict[frozenset[str], dict[str, Any]] = {}
        for line in self._trace.lines:
            self._learn(line)

    def suggest_teacher_answers(self, teacher_answers: Sequence[str]) -> None:
        """Give the engine the teacher's answers as drafts. With all units, the student may answer like the teacher."""
        for batch in self._engine.batches(len(self._prompts)):
            self._engine.suggest(
                [self._prompts[i] for i in batch],
                [teacher_answers[i] for i in batch],
                frozenset(self._hybrid.pair.units),
            )

    @cached_property
    def bar(self) -> Bar:
        """The bar, from the DSR of the student and the DSR of all units together."""
        student = self._measured("none", ())
        everything = self._measured("all", self._hybrid.pair.units)
        return Bar(student, everything, student + self._settings.threshold * (everything - student))

    def known(self) -> dict[frozenset[str], Outcome]:
        """The outcome of every set that is on disk: whether it reaches the bar, and its DSR."""
        return {units: self._outcome(line) for units, line in self._index.items()}

    def ask(self, units: frozenset[str], label: str) -> Outcome:
        """Evaluate a set and write the query to disk. A set that is on disk is not evaluated again.

        A set that must fail is not asked further rows.
        """
        bar = self.bar
        if units not in self._index:
            self._keep(label, units, self._evaluate(units, bar))
        return self._outcome(self._index[units])

    def decisive_rows(self, most: int) -> list[int]:
        """The indices of the first rows, at most `most`, that all units together defend and the student does not."""
        assert self.bar  # measuring the bar has asked both
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
        """The evidence from which a prior is computed: from the rows at these indices, or from all rows.

        With `places`, the student's answers end where it is certain that they are not defences: by then they differ
        from the teacher's. Without `places`, some rows may have the same answer, so answers are generated whole.
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
        """The first `most` prompts and both models' answers. The student must have been asked."""
        places = range(len(self._prompts))[:most]
        answers = self._answers(frozenset(), places)
        return [
            Sample(templated(self._engine.loaded.tokenizer, self._prompts[place]), teacher_answers[place], answer.text)
            for place, answer in zip(places, answers, strict=True)
        ]

    @property
    def pair(self) -> Pair:
        """The teacher, and the student that is asked."""
        return self._hybrid.pair

    @property
    def answers_file(self) -> Path:
        """The file of the student's and the hybrids' answers."""
        return self._completions.file

    @property
    def lines(self) -> Sequence[Line]:
        """The lines of `search.jsonl`, one for each set evaluated so far, including those of interrupted processes."""
        return self._trace.lines

    def at_most(self, line: int) -> float:
        """The highest DSR that the set in a line of `search.jsonl` can have. It is exact if all rows were asked."""
        return float(self._trace.lines[line]["at_most"])

    def prompts(self, line: int) -> int:
        """The number of rows that the query in a line of `search.jsonl` has asked."""
        return int(self._trace.lines[line]["prompts"])

    def line(self, units: Iterable[str]) -> int:
        """The index of the line of `search.jsonl` that asked for these units."""
        return int(self._index[frozenset(units)]["index"])

    def _measured(self, label: str, units: Iterable[str]) -> float:
        """The DSR of a set on all search rows."""
        chosen = frozenset(units)
        if chosen not in self._index:
            self._keep(label, chosen, self._evaluate(chosen, None))
        return float(self._index[chosen]["score"])

    def _outcome(self, line: dict[str, Any]) -> Outcome:
        return Outcome(self.bar.passes(line["score"]), line["score"])

    def _rounds(self, bar: Bar | None) -> list[Sequence[int]]:
        """All rows, the hardest first, cut into the rounds of a query. There is one round if all rows must be asked."""
        order = self._difficulty.hardest_first()
        return rounds(order, bar.dsr) if bar is not None and self.stops else [order]

    def _evaluate(self, units: frozenset[str], bar: Bar | None) -> dict[str, Any]:
        """Evaluate a set on the hardest rows first. Stop if there is a bar and the set can no longer reach it."""
        started, before = time.monotonic(), self._engine.work
        answers: list[Completion] = []
        verdicts: dict[int, Verdict] = {}
        for places in map(sorted, self._rounds(bar)):
            for whole in (False, True):
                rows = [place for place in places if (place in self.longer_rows) == whole]
                new = self._read(units, rows, whole)
                answers += new
                verdicts |= dict(zip(rows, self._judged(rows, new, whole), strict=True))
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

    @cached_property
    def longer_rows(self) -> frozenset[int]:
        """The rows on which the first tokens of the student's answer, or that of all units, mislead the judge.

        There, the verdict on an answer of `search.max_new_tokens` is another than on one of `search.longer_tokens`.
        """
        if self._longer is None:
            return frozenset()
        places, found = list(range(len(self._prompts))), set[int]()
        for units in (frozenset[str](), frozenset(self._hybrid.pair.units)):
            short, long = (self._judged(places, self._read(units, places, whole), whole) for whole in (False, True))
            pairs = zip(places, short, long, strict=True)
            found |= {place for place, a, b in pairs if (a in DEFENDED) != (b in DEFENDED)}
        return frozenset(found)

    def _read(self, units: frozenset[str], places: Sequence[int], whole: bool) -> list[Completion]:
        """The answers to the prompts at these indices, of `longer_tokens` if `whole`, else of `max_new_tokens`."""
        if not whole or self._longer is None or not places:
            return self._answers(units, places) if places else []
        self._hybrid.set_units(units)
        request = Request(self._prompts, self._settings.longer_tokens or 0, frozenset(places))
        return self._longer.complete(self._engine, "+".join(sorted(units)), request)

    def _judged(self, places: Sequence[int], answers: Sequence[Completion], whole: bool) -> list[Verdict]:
        """The verdicts on the answers to these prompts. If the judge failed on an answer before, it is asked again.

        Raises DapaError if the judge fails too often.
        """
        failed = Verdict.FAILED
        said = [(self._prompts[place].text, answer.text, whole) for place, answer in zip(places, answers, strict=True)]
        new = [answer for answer in dict.fromkeys(said) if self._verdicts.get(answer, failed) is failed]
        if new:
            prompts, texts = [prompt for prompt, _, _ in new], [text for _, text, _ in new]
            verdicts = (self._judge.verdicts if whole else self._judge.early)(prompts, texts)
            demand_verdicts(self._judge, verdicts)
            self._verdicts |= dict(zip(new, verdicts, strict=True))
        return [self._verdicts[answer] for answer in said]

    def _answers(self, units: frozenset[str], places: Iterable[int], whole: bool = False) -> list[Completion]:
        """The answers of the hybrid with these units to the prompts at these indices, in the order of the prompts.

        Unless `whole`, an answer ends as soon as it is certain whether it is a defence.
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
        """Whether the judge can tell from the beginning of an answer if it is a defence. A score counts only this."""
        return self._judge.final(prompt.text, beginning) is not None

    def _keep(self, label: str, units: frozenset[str], found: dict[str, Any]) -> None:
        in_order = [unit for unit in self._hybrid.pair.units if unit in units]
        line = {"index": len(self._trace.lines), "label": label, "units": in_order, **found}
        self._trace.append(line)
        self._learn(line)

    def _learn(self, line: dict[str, Any]) -> None:
        self._index[frozenset(line["units"])] = line
        self._difficulty.learn(line["verdicts"])
