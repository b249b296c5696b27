"""One set for several students: it serves each of them, each unit is needed by one of them, nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.problems import ConfigError
from dapa_exp.config.schema import Config
from dapa_exp.drift import drift
from dapa_exp.localise.localise import localise
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import shape_of
from dapa_exp.record.compare import differences
from dapa_exp.record.identity import essence, evaluations, identity
from dapa_exp.record.layout import RunLayout
from dapa_exp.run import run
from dapa_exp.search.joint import Joint
from dapa_exp.search.oracle import Bar, Oracle
from dapa_exp.search.query import Outcome, SearchResult
from dapa_exp.search.solve import search
from dapa_exp.zoo.build import build
from tests.recompute.run import Run, check_run
from tests.recompute.tally import Tally
from tests.settings import quick_config

UNITS = [f"layers.{layer}" for layer in range(12)]
LEFT, RIGHT = frozenset({"layers.2", "layers.3"}), frozenset({"layers.3", "layers.9"})
ALGORITHMS = ["auto", "ddmin", "range", "deletion", "greedy"]
FOREVER = count()


class Planted(Oracle):
    """A student that needs known units. Its score is the share of them that it has. It dies where `left` reaches 0."""

    def __init__(self, needs: Iterable[str], stops: bool = True) -> None:
        self.needs, self.stops = frozenset(needs), stops
        self.bar = Bar(0.0, 1.0, 1.0)
        self.left: Iterator[int] = FOREVER
        self.asked = list[frozenset[str]]()
        self.answers = dict[frozenset[str], Outcome]()
        self.ask(frozenset(), "bar")
        self.ask(frozenset(UNITS), "bar")

    def ask(self, units: frozenset[str], label: str) -> Outcome:
        if units not in self.answers:
            if next(self.left) == -1:
                raise KeyboardInterrupt
            self.asked.append(units)
            score = len(self.needs & units) / len(self.needs)
            self.answers[units] = Outcome(score == 1.0, score)
        return self.answers[units]

    def known(self) -> dict[frozenset[str], Outcome]:
        return dict(self.answers)


def two(algorithm: str) -> list[Planted]:
    return [Planted(needed, stops=algorithm != "greedy") for needed in (LEFT, RIGHT)]


def searched(algorithm: str, students: list[Planted], left: Iterator[int] = FOREVER) -> SearchResult:
    for one in students:
        one.left = left
    joint = Joint(students)
    return search(algorithm, UNITS, joint.ask, known=joint.known())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_set_serves_all_and_a_witness_is_a_student_that_fails(algorithm: str) -> None:
    students = two(algorithm)
    found = searched(algorithm, students)
    assert set(found.units) == LEFT | RIGHT
    assert found.certificate is not None
    for unit in found.units:
        witness = students[Joint(students).failing((LEFT | RIGHT) - {unit})]
        assert unit in witness.needs
        assert (LEFT | RIGHT) - {unit} in witness.asked


def test_a_set_that_fails_one_student_is_not_asked_of_the_others_and_the_hardest_is_asked_first() -> None:
    easy, hard = Planted({"layers.5"}), Planted(UNITS[2:8])
    assert set(searched("deletion", [easy, hard]).units) == hard.needs
    alone = Planted(hard.needs)
    searched("deletion", [alone])
    assert len(hard.asked) <= len(alone.asked)
    passed = sum(outcome.passed for outcome in hard.answers.values())
    assert len(easy.asked) <= passed + 2, "of no unit for the bar, and of the first set that the hard student fails"


def test_an_algorithm_that_compares_failing_sets_asks_all_students() -> None:
    students = two("greedy")
    assert Joint(students).ask(frozenset({"layers.2"}), "one") == Outcome(False, 0.0)
    assert [len(one.asked) for one in students] == [3, 3]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_that_was_killed_goes_on_and_asks_no_student_twice(algorithm: str) -> None:
    whole = two(algorithm)
    undisturbed = searched(algorithm, whole)
    for survived in range(sum(len(one.asked) for one in whole) - 4):
        students = two(algorithm)
        with pytest.raises(KeyboardInterrupt):
            searched(algorithm, students, count(survived - 1, -1))
        assert searched(algorithm, students) == undisturbed
        assert [one.asked for one in students] == [one.asked for one in whole]


SEVERAL = ("pair=mini-mistral-style", "pair.also=[zoo:mistral-mix]", "evaluate.random_repeats=0")


def settings(*words: str) -> Config:
    return quick_config(*SEVERAL, "search=auto", *words)


@pytest.mark.slow
def test_the_record_proves_for_each_student_what_it_says_and_a_killed_run_asks_nothing_again(tmp_path: Path) -> None:
    build(["mistral-style", "mistral-mix", "mistral-chat"], silent)
    folder, config = tmp_path / "sweep" / "run", settings()
    first = run(config, folder, silent)
    found = first.search
    files, ids = RunLayout(folder), ["zoo:mistral-style", "zoo:mistral-mix"]
    journals = {name: files.queries_of(student) for student, name in enumerate(ids, start=1)}
    lines = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in journals.items()}
    assert found.status == "certified"
    assert [one.model.id for one in found.students] == ids
    for one in found.students:
        by_units = {frozenset(line["units"]): line for line in lines[one.model.id]}
        assert one.found_dsr == by_units[frozenset(found.units_found)]["at_most"] >= one.threshold_dsr - 1e-9
        assert one.ledger.queries == len(lines[one.model.id])
        assert one.ledger.prompts == sum(line["prompts"] for line in lines[one.model.id])
    assert {witness.without for witness in found.certificate} == set(found.units_found)
    for witness in found.certificate:
        name = witness.student or ids[0]
        line = lines[name][witness.query]
        assert set(line["units"]) == set(found.units_found) - {witness.without}
        assert line["at_most"] == witness.dsr < found.students[ids.index(name)].threshold_dsr
    assert found.ledger.queries == sum(map(len, lines.values())) == files.count_queries()

    tally = Tally()
    check_run(Run(folder), tally)
    assert not tally.differences

    told = {name: file.read_text() for name, file in journals.items()}
    files.record.unlink()
    files.found.unlink()
    for name in ids:
        journals[name].write_text("".join(told[name].splitlines(keepends=True)[:-1]))
    assert not differences(run(config, folder, silent), first)
    assert [line["units"] for name in ids for line in map(json.loads, journals[name].read_text().splitlines())] == [
        line["units"] for name in ids for line in lines[name]
    ]


def test_further_students_count_in_the_identity_and_not_in_what_is_measured_of_the_first() -> None:
    one, several = quick_config(SEVERAL[0], SEVERAL[2], "search=auto"), settings()
    assert "also" not in essence(one)["pair"]
    assert identity(one) != identity(several)
    assert {**evaluations(one), "hybrid": ""} == {**evaluations(several), "hybrid": ""}
    alone, together = needs(one, shape_of), needs(several, shape_of)
    assert alone.queries is not None
    assert str(together.queries) == f"≤ {2 * alone.queries.count}"
    assert (together.memory or 0) > (alone.memory or 0)


def test_what_is_made_for_one_student_only_is_refused_for_several(tmp_path: Path) -> None:
    for word, message in (
        ("pair.also=[zoo:mistral-style]", r"pair: also: zoo:mistral-style is named twice"),
        ("search=all", r"search: algorithm is all, which searches for no set; .*one set for several students"),
        ("search.longer_tokens=64", r"search: longer_tokens must be null; "),
        ("transplant=blend", r"transplant: method is blend; it must be copy; "),
        ("evaluate.confirm=0.05", r"evaluate: confirm must be null; "),
        ("runtime.engine=vllm", r"runtime: engine is vllm; it must be fast or plain; "),
    ):
        with pytest.raises(ConfigError, match=message):
            settings(word)
    with pytest.raises(DapaError, match=r"pair\.also: dapa drift takes one student"):
        drift(settings(), tmp_path, silent)
    with pytest.raises(DapaError, match=r"pair\.also: dapa localise takes one student"):
        localise(settings(), tmp_path, silent)
