"""Random sets beside the found one: which are drawn, and what their number says."""

from __future__ import annotations

from math import comb
from pathlib import Path

import pytest

from dapa_exp.base.draws import other_sets, sets_of_weight
from dapa_exp.base.progress import silent
from dapa_exp.evaluate.random_control import seed_of
from dapa_exp.record.evaluation import ControlRecord
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.settings import quick_config

UNITS = [f"layers.{i}.mlp" for i in range(8)]
FOUND = frozenset(UNITS[2:4])


def test_the_found_set_is_never_drawn_and_few_sets_are_all_asked() -> None:
    every = other_sets(UNITS, FOUND, 50, seed=0)
    assert len(set(every)) == comb(8, 2) - 1
    assert FOUND not in every
    for seed in range(20):
        drawn = other_sets(UNITS, FOUND, 20, seed)
        assert len(set(drawn)) == 20
        assert FOUND not in drawn
        assert {len(each) for each in drawn} == {2}


def test_pairs_draw_sets_of_their_own() -> None:
    one, other = (other_sets(UNITS, FOUND, 10, seed_of(pair, "mlp", 0)) for pair in ("a", "b"))
    assert one != other
    assert one == other_sets(UNITS, FOUND, 10, seed_of("a", "mlp", 0))


def test_sets_of_equal_parameters_weigh_about_as_much() -> None:
    weights = {f"layers.{i}.{name}": size for i in range(8) for name, size in (("mlp", 30), ("attention", 10))}
    found = frozenset({"layers.2.mlp", "layers.3.mlp", "layers.3.attention"})
    drawn = sets_of_weight(weights, 70, found, 50, seed=1)
    assert len(set(drawn)) == 50
    assert found not in drawn
    assert all(60 <= sum(weights[unit] for unit in each) <= 80 for each in drawn)
    assert len({len(each) for each in drawn}) > 1


@pytest.mark.parametrize("granularity", ["mlp", "[mlp,attention]"])
def test_a_run_says_how_many_random_sets_reach_what_was_found(tmp_path: Path, granularity: str) -> None:
    build(["llama-small-style", find("llama-small-planted").name], silent)
    uneven = granularity != "mlp"
    words = [f"granularity.modules={granularity}"] if uneven else ["granularity=mlp"]
    record = run(
        quick_config(
            "pair=mini-llama-small-style",
            "family.teacher.id=zoo:llama-small-planted",
            "search=given",
            "search.units=[layers.2.mlp,layers.3.mlp]",
            "evaluate.random_repeats=30",
            *words,
        ),
        tmp_path / "run",
        silent,
    )
    control = record.evaluate.random
    assert control.sets is not None
    assert control.found_dsr is not None
    assert control.interval is not None
    assert control.found_dsr.value == pytest.approx(record.evaluate.hybrid.dsr.value, abs=0.07)
    assert record.search.units_found not in control.sets
    assert len(control.sets) == len(control.dsr) == (30 if uneven else comb(8, 2) - 1)
    assert control.exact is not uneven
    assert control.reached == sum(measure.value >= control.found_dsr.value for measure in control.dsr)
    assert control.p_value == pytest.approx((1 + control.reached) / (1 + len(control.sets)))
    assert control.interval.n == len(control.sets)
    assert control.interval.value == pytest.approx(control.mean)
    assert (control.equal_parameters is not None) == uneven
    if control.equal_parameters is not None:
        sizes = control.equal_parameters.parameters
        assert sizes is not None
        assert len({len(each) for each in control.equal_parameters.sets or []}) > 1


def test_records_from_before_are_still_read() -> None:
    old = ControlRecord.model_validate({"k": 3, "dsr": [{"value": 0.5, "n": 10}], "mean": 0.5})
    assert old.p_value is None
