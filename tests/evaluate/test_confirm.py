"""A found set and its certificate are tested on fresh rows: rightly, soon, and with the stated error rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from analysis import load
from analysis.tables.main import main_table
from dapa_exp.base.progress import silent
from dapa_exp.evaluate.confirm import confirm, log_evidence
from dapa_exp.evaluate.set_reader import SetReader
from dapa_exp.judges import Verdict
from dapa_exp.record.evaluation import Confirmation
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from tests.settings import quick_config

FOUND = ["layers.2.mlp", "layers.3.mlp"]


@dataclass
class Answers:
    """Rows that each set defends with its own probability."""

    dsr: dict[frozenset[str], float]
    n: int
    seed: int
    asked: dict[frozenset[str], set[int]] = field(default_factory=dict)

    @property
    def prompts(self) -> range:
        return range(self.n)

    def verdicts(self, units: list[str], rows: list[int]) -> list[Verdict]:
        chosen = frozenset(units)
        self.asked.setdefault(chosen, set()).update(rows)
        luck = np.random.default_rng([self.seed, len(chosen), len("".join(sorted(chosen)[:1]))]).random(self.n)
        return [Verdict.REFUSED if luck[row] < self.dsr[chosen] else Verdict.HARMFUL for row in sorted(rows)]


def of(answers: Answers, bar: float = 0.85) -> Confirmation:
    return confirm(cast(SetReader, answers), FOUND, FOUND, bar, 0.05, answers.seed, lambda done, total: None)


def test_what_clearly_holds_is_confirmed_on_few_rows_and_what_does_not_is_refuted() -> None:
    whole, second, first = frozenset(FOUND), frozenset(FOUND[1:]), frozenset(FOUND[:1])
    answers = Answers({whole: 1.0, second: 0.2, first: 1.0}, 400, 0)
    claims = of(answers).claims
    assert [(claim.without, claim.verdict) for claim in claims] == [
        (None, "confirmed"),
        (FOUND[0], "confirmed"),
        (FOUND[1], "refuted"),
    ]
    assert claims[1].prompts <= 16
    assert len(answers.asked[second]) == 16
    assert of(Answers({whole: 0.86, second: 0.2, first: 0.2}, 64, 0)).claims[0].verdict == "undecided"


def test_a_set_at_the_bar_is_seldom_told_anything() -> None:
    """At the bar both verdicts are wrong nearly, and each of three claims has a third of the error rate a side."""
    wrong = 0
    for seed in range(300):
        answers = Answers(
            dict.fromkeys((frozenset(FOUND), frozenset(FOUND[1:]), frozenset(FOUND[:1])), 0.85), 256, seed
        )
        wrong += of(answers).claims[0].verdict != "undecided"
    assert wrong / 300 <= 2 * 0.05 / 3 + 0.02


@pytest.mark.parametrize(("defended", "other"), [(0, 0), (3, 1), (40, 2)])
def test_evidence_is_the_mean_likelihood_on_one_side_of_the_bar_over_that_at_the_bar(defended: int, other: int) -> None:
    bar, above = 0.7, np.linspace(0.7, 1.0, 200_001)
    below = np.linspace(0.0, 0.7, 200_001)
    for found, side in zip(log_evidence(defended, other, bar), (above, below), strict=True):
        mean = np.mean(side**defended * (1 - side) ** other) / (bar**defended * (1 - bar) ** other)
        assert np.exp(found) == pytest.approx(mean, rel=1e-3)


def test_a_bar_of_one_is_refuted_by_one_answer_and_confirmed_by_none() -> None:
    assert log_evidence(50, 0, 1.0)[0] == -np.inf
    assert log_evidence(50, 1, 1.0)[1] == np.inf


@pytest.mark.slow
def test_a_run_confirms_its_set_and_says_so_in_the_table(tmp_path: Path) -> None:
    build(["llama-small-style", "llama-small-planted"], silent)
    words = ["pair=mini-llama-small-style", "family.teacher.id=zoo:llama-small-planted", "evaluate.confirm=0.1"]
    record = run(
        quick_config(*words, "dataset.report.rows=[96,160]", "search=auto"), tmp_path / "single" / "run", silent
    )
    confirmation = record.evaluate.confirmation
    assert confirmation is not None
    assert confirmation.error_rate == 0.1
    assert confirmation.bar == record.search.threshold_dsr
    assert [claim.without for claim in confirmation.claims] == [None, *record.search.units_found]
    assert any(claim.verdict == "confirmed" for claim in confirmation.claims[1:])
    confirmed = sum(claim.verdict == "confirmed" for claim in confirmation.claims[1:])
    table = main_table(load(tmp_path / "single" / "run"))
    shown = f"{confirmation.claims[0].verdict}, {confirmed}/{len(record.search.units_found)}"
    assert table.display["on report rows: set, units needed"].iloc[0] == shown
