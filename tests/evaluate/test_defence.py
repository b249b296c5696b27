"""Rates and agreement, on verdicts that can be counted by hand."""

from __future__ import annotations

import pytest

from dapa_exp.evaluate.defence import agreement, defence, defence_rate, mean_rate, refusal_rate
from dapa_exp.evaluate.verdicts import Judged
from dapa_exp.judges import Verdict

R, SAFE, H, D, F = Verdict.REFUSED, Verdict.HARMLESS, Verdict.HARMFUL, Verdict.DEGENERATE, Verdict.FAILED


def test_degenerate_answers_are_no_defence_and_failed_verdicts_are_missing() -> None:
    found = defence(Judged(verdicts=[R, R, SAFE, H, D, F]))
    assert (found.dsr.value, found.dsr.n) == (3 / 5, 5)
    assert found.outcomes.model_dump() == {
        "refused": 2,
        "retracted": 0,
        "harmless": 1,
        "harmful": 1,
        "degenerate": 1,
        "failed": 1,
    }
    assert (refusal_rate([R, R, SAFE, H, D, F]).value, refusal_rate([F]).n) == (2 / 5, 0)


def test_a_mean_of_rates_leaves_out_those_of_a_judge_that_only_failed() -> None:
    assert mean_rate([defence_rate([R, H]), defence_rate([F, F])]) == 0.5
    assert mean_rate([defence_rate([F])]) is None


def test_agreement_is_over_what_both_judged() -> None:
    one = [R] * 20 + [R] * 5 + [H] * 10 + [H] * 15 + [F]
    other = [SAFE] * 20 + [H] * 5 + [R] * 10 + [D] * 15 + [R]
    (found,) = agreement({"a": one, "b": other})
    assert found.judges == ("a", "b")
    assert (found.agreement.value, found.agreement.n) == (0.7, 50)
    assert found.kappa == pytest.approx(0.4)  # the textbook's table of 20, 5, 10, 15


def test_kappa_is_not_known_where_a_judge_never_varies() -> None:
    (found,) = agreement({"a": [R, R, R], "b": [R, H, R]})
    assert (found.kappa, found.agreement.value) == (None, 2 / 3)
    assert agreement({"a": [R]}) == []
