"""Asks several students of one teacher for the same set of units: one set that serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report
from dapa_exp.config.schema import Config
from dapa_exp.engine.make import load_student
from dapa_exp.engine.work import TokenWork
from dapa_exp.evaluate.evaluator import Evaluator
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.models.pair_templates import check_templates
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import Ledger, Work
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.query import Outcome
from dapa_exp.transplant.hybrid import Hybrid


class Joint:
    """The oracles of several students, asked as one: a set passes if every student reaches its own bar with it.

    The students that have failed most often are asked first. Once one fails, the others are not asked, unless the
    algorithm compares failing sets. The score is that of the student that is furthest below its bar.
    """

    def __init__(self, oracles: Sequence[Oracle]) -> None:
        self.oracles = tuple(oracles)

    def ask(self, units: frozenset[str], label: str) -> Outcome:
        """Test a set on the students. A student on which it was tested before is not asked again."""
        for oracle in sorted(self.oracles, key=_failures, reverse=True):
            if not oracle.ask(units, label).passed and oracle.stops:
                break
        return self.known()[units]

    def known(self) -> dict[frozenset[str], Outcome]:
        """The outcome of every set on disk, except sets that another student must still be asked for."""
        each = [(oracle, oracle.known()) for oracle in self.oracles]
        sets = dict.fromkeys(units for _, known in each for units in known)
        found = {}
        for units in sets:
            asked = [(known[units].score - oracle.bar.dsr, known[units]) for oracle, known in each if units in known]
            _, lowest = min(asked, key=lambda outcome: outcome[0])
            if len(asked) == len(each) or (self.oracles[0].stops and not lowest.passed):
                found[units] = lowest
        return found

    def failing(self, units: frozenset[str]) -> int:
        """The place of the first student that has failed with these units."""
        return next(
            place
            for place, oracle in enumerate(self.oracles)
            if (outcome := oracle.known().get(units)) and not outcome.passed
        )

    def prompts(self, units: frozenset[str]) -> int:
        """The number of rows asked about these units, summed over the students."""
        return sum(oracle.prompts(oracle.line(units)) for oracle in self.oracles if units in oracle.known())

    @property
    def queries(self) -> int:
        """How many hybrids were evaluated so far, of all students, including those of interrupted processes."""
        return sum(len(oracle.lines) for oracle in self.oracles)

    def ledger(self, cache_hits: int) -> Ledger:
        """The cost of all queries to all students, including those of interrupted processes."""
        return total(self.oracles, cache_hits)


def total(oracles: Sequence[Oracle], cache_hits: int = 0) -> Ledger:
    """The cost of these oracles' queries."""
    lines = [line for oracle in oracles for line in oracle.lines]
    return Ledger(
        queries=len(lines),
        cache_hits=cache_hits,
        prompts=sum(line["prompts"] for line in lines),
        tokens=sum(line["tokens"] for line in lines),
        seconds=sum(line["seconds"] for line in lines),
        work=Work(**asdict(sum((TokenWork(**line["work"]) for line in lines), TokenWork()))),
    )


def _failures(oracle: Oracle) -> int:
    return sum(not outcome.passed for outcome in oracle.known().values())


def open_others(config: Config, pair: Pair, report: Report) -> list[tuple[Config, Pair]]:
    """The further students that the found set is to serve, each with a config of its own. No weights are read.

    Raises DapaError if one of them does not fit the teacher.
    """
    others = [(each, open_pair(each, report)) for each in config.by_student()[1:]]
    for each, other in others:
        check_templates(each, other)
        if list(other.units) != list(pair.units):
            raise DapaError(f"{each.pair.name}: its units are not those of {config.pair.student.id}")
    return others


def load_others(run: RunFolder, evaluator: Evaluator, others: list[tuple[Config, Pair]]) -> list[Oracle]:
    """The oracles of further students. They stay in memory together until the search ends."""
    oracles = []
    for student, (config, pair) in enumerate(others, start=2):
        engine = load_student(config, pair)
        hybrid = Hybrid(engine.loaded.model, pair)
        oracles.append(Oracle(run, hybrid, engine, evaluator.judge, evaluator.prompts.search, student))
    return oracles
