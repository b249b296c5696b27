"""Units of different size: the lightest set is looked for, and equal weights change nothing."""

from __future__ import annotations

import pytest

from dapa_exp.search import Outcome, search
from tests.benchmarks.planted import REDUCTIONS, layers, scatter

UNITS = ("layers.0.attention", "layers.1.attention", *layers(8))
WEIGHTS = {unit: 1.0 if "attention" in unit else 5.0 for unit in UNITS}


def either(candidate: frozenset[str], label: str = "") -> Outcome:
    """One heavy unit suffices, and so do two light ones."""
    passed = "layers.7.mlp" in candidate or {*UNITS[:2]} <= candidate
    return Outcome(passed, 0.9 if passed else 0.1)


@pytest.mark.parametrize("algorithm", ["deletion", "ddmin", "exhaustive", "auto"])
def test_two_light_units_are_preferred_to_a_heavy_one(algorithm: str) -> None:
    light = search(algorithm, UNITS, either, weights=WEIGHTS)
    assert light.units == UNITS[:2]
    assert light.certificate is not None


def test_without_weights_the_fewest_units_are_found() -> None:
    assert search("exhaustive", UNITS, either).units == ("layers.7.mlp",)


@pytest.mark.parametrize("algorithm", [name for name in REDUCTIONS if name != "exhaustive"])
def test_equal_weights_lead_to_the_same_queries_as_none(algorithm: str) -> None:
    for seed in range(5):
        planted = scatter(layers(16), seed)
        weights = dict.fromkeys(planted.units, 37.0)
        with_weights = search(algorithm, planted.units, planted.test, weights=weights)
        assert with_weights.queries == search(algorithm, planted.units, planted.test).queries
