"""The default algorithm keeps what it promises, on few oracles; the benchmark measures it on many."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from dapa_exp.search import Outcome, Test, Unit, search
from dapa_exp.search.score_model import ScoreModel
from tests.benchmarks.planted import HELD_OUT, KINDS, layers, prior, projections, shuffled
from tests.benchmarks.search_queries import make_targets, measure_cell

UNITS = layers(28)
SEEDS = range(500, 508)


def queries(algorithm: str, kind: str, quality: float | None = None, shuffle: bool = False) -> float:
    counts = []
    for seed in SEEDS:
        planted = (KINDS | HELD_OUT)[kind](UNITS, seed)
        hint = None if quality is None else prior(planted, quality, seed)
        if hint is not None and shuffle:
            hint = shuffled(hint, seed)
        result = search(algorithm, planted.units, planted.test, prior=hint)
        assert result.certificate is not None
        counts.append(len(result.queries))
    return fmean(counts)


@pytest.mark.parametrize("kind", [*KINDS, *HELD_OUT])
def test_a_fraction_of_the_queries_of_ddmin(kind: str) -> None:
    assert queries("auto", kind) <= 0.65 * queries("ddmin", kind)


@pytest.mark.parametrize("kind", [*KINDS, *HELD_OUT])
@pytest.mark.parametrize("algorithm", ["auto", "prior"])
def test_a_shuffled_prior_costs_little(algorithm: str, kind: str) -> None:
    assert queries(algorithm, kind, 0.9, shuffle=True) <= 1.1 * queries("ddmin", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_prior_saves_queries(kind: str) -> None:
    assert queries("auto", kind, 0.9) < queries("auto", kind)


@pytest.mark.parametrize("n", [8, 12, 28, 96])
def test_a_prior_that_takes_all_units_for_equal_puts_none_before_another(n: int) -> None:
    planted = KINDS["block"](layers(n), 0)
    result = search("auto", planted.units, planted.test, prior=dict.fromkeys(planted.units, 0.1))
    prefixes = [query.units for query in result.queries if query.label.startswith("prefix")]
    assert prefixes
    assert all(prefix == planted.units[: len(prefix)] for prefix in prefixes)
    assert np.ptp(ScoreModel(["mlp"] * n, np.full(n, 0.1)).weights) == 0.0


def test_where_scores_rise_steeply_a_set_that_passed_is_expected_to_pass() -> None:
    sets = np.tri(8)[[7, 3, 5, 6]]
    model = ScoreModel(["mlp"] * 8, None)
    model.fit(sets, np.array([1.0, 0.02, 0.1, 1.0]), np.array([True, False, False, True]))
    assert model.chances(sets)[3] > 0.5


def test_attention_and_mlp_of_a_layer_are_told_apart() -> None:
    """Only the MLPs of four neighbouring layers matter, and scores fall steeply without one of them."""
    units = tuple(f"layers.{layer}.{kind}" for layer in range(12) for kind in ("attention", "mlp"))

    def queries(algorithm: str, needed: tuple[Unit, ...]) -> int:
        def test(chosen: frozenset[Unit], label: str) -> Outcome:
            score = (1.0, 0.6, 0.1, 0.0, 0.0)[len(set(needed) - chosen)]
            return Outcome(score >= 0.9, score)

        result = search(algorithm, units, test)
        assert result.units == needed
        return len(result.queries)

    places = [units[first : first + 7 : 2] for first in range(1, 19, 2)]
    assert fmean(queries("auto", needed) for needed in places) < 0.9 * fmean(
        queries("range", needed) for needed in places
    )


def test_scores_are_made_use_of() -> None:
    """The same verdicts lead to larger answers where the scores are withheld."""
    with_scores, without = [], []
    for seed in SEEDS:
        planted = KINDS["threshold"](layers(40), seed)

        def verdict(candidate: frozenset[Unit], label: str, test: Test = planted.test) -> Outcome:
            passed = test(candidate, label).passed
            return Outcome(passed, float(passed))

        with_scores.append(len(search("auto", planted.units, planted.test).units))
        without.append(len(search("auto", planted.units, verdict).units))
    assert fmean(with_scores) < fmean(without)


def test_an_oracle_without_structure_ends_within_the_worst_case() -> None:
    """Every set of at least half of the units passes, and scores say the opposite of the truth."""
    units = layers(20)

    def test(candidate: frozenset[Unit], label: str = "") -> Outcome:
        return Outcome(len(candidate) >= 10, sum(hash_free(unit) for unit in candidate) % 101 / 101)

    result = search("auto", units, test)
    assert len(result.units) == 10
    assert result.certificate is not None
    assert len(result.queries) <= len(units) ** 2 / 2 + 3 * len(units)


def hash_free(unit: Unit) -> int:
    """A number that differs between units, but not between processes."""
    return 37 * int(unit.split(".")[1]) ** 2


def test_hierarchical_asks_about_whole_layers_first() -> None:
    planted = KINDS["scatter"](projections(28), 501)
    result = search("hierarchical", planted.units, planted.test)
    touched = {unit.rsplit(".", 1)[0] for unit in result.queries[1].units}
    assert len(result.queries[1].units) == 3 * len(touched)
    assert result.certificate is not None
    assert len(result.queries) < len(search("ddmin", planted.units, planted.test).queries)


def test_the_benchmark_finds_our_ddmin_and_picires_equal() -> None:
    rows = [
        row
        for group, kind, level, n in [
            ("planted", "block", "layers", 18),
            ("held out", "islands", "layers", 18),
            ("projections", "noisy", "projections", 18),
        ]
        for row in measure_cell(group, level, kind, n, repeats=2)
    ]
    for cell in {row.cell for row in rows}:
        ours, theirs = (
            next(row for row in rows if (row.cell, row.algorithm) == (cell, name)) for name in ("ddmin", "picire ddmin")
        )
        assert (ours.queries, ours.size) == (theirs.queries, theirs.size)
    assert all({"name", "measured", "bound", "better"} == set(target) for target in make_targets(rows))
