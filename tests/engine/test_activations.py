"""What layers made is kept within a budget, and found only for the weights that made it."""

from __future__ import annotations

import torch

from dapa_exp.engine.activations import Activation, Activations

LAYERS = 5
BYTES = 3 * 4


def made(number: int, *places: int) -> Activation:
    """Of one prompt of one token, or of these."""
    one = torch.full((len(places) or 1, 1, 1), float(number))
    return Activation(places or (0,), one, one, one)


def fill(activations: Activations, units: set[str], number: int) -> int:
    """Ask for a hybrid and add what was not there; returns how much was."""
    path = activations.path(0, frozenset(units), LAYERS)
    known = activations.known(path, [0])
    for key in path[len(known) :]:
        activations.add(key, made(number))
        assert activations.bytes <= activations.budget
    return len(known)


def test_a_hybrid_shares_the_layers_below_its_first_difference() -> None:
    activations = Activations(10**6)
    assert fill(activations, {"layers.1.mlp", "layers.3.mlp"}, 1) == 0
    assert fill(activations, {"layers.1.mlp", "layers.3.mlp"}, 2) == LAYERS - 1
    assert fill(activations, {"layers.1.mlp"}, 3) == 3
    assert fill(activations, {"layers.1.attention", "layers.3.mlp"}, 4) == 1
    assert fill(activations, set(), 5) == 1
    path = activations.path(0, frozenset({"layers.1.mlp"}), LAYERS)
    assert [float(found.hidden) for (found,) in activations.known(path, [0])] == [1, 1, 1, 3]


def test_a_layer_is_known_once_it_was_made_of_all_the_prompts_and_nothing_is_kept_twice() -> None:
    activations = Activations(10**6)
    path = activations.path(0, frozenset(), LAYERS)
    activations.add(path[0], made(1, 4, 2))
    assert activations.known(path, [2, 7]) == []
    activations.add(path[0], made(2, 2, 7))
    ((first, second),) = activations.known(path, [2, 7])
    assert (first.places, second.places) == ((4, 2), (7,))
    assert activations.bytes == 3 * BYTES


def test_another_batch_shares_nothing() -> None:
    activations = Activations(10**6)
    fill(activations, set(), 1)
    assert activations.known(activations.path(1, frozenset(), LAYERS), [0]) == []


def test_the_least_recently_used_goes_first_and_higher_layers_before_lower_ones() -> None:
    activations = Activations(6 * BYTES)
    fill(activations, {"layers.0.mlp"}, 1)  # 4 activations
    fill(activations, set(), 2)  # 4 more: 2 of the first hybrid's have to go
    assert activations.bytes == 6 * BYTES
    assert fill(activations, {"layers.0.mlp"}, 3) == 2
    assert fill(activations, set(), 4) == 2


def test_a_budget_too_small_for_a_hybrid_keeps_its_lowest_layers() -> None:
    activations = Activations(2 * BYTES)
    fill(activations, set(), 1)
    assert fill(activations, set(), 2) == 2
    assert fill(Activations(BYTES - 1), set(), 1) == 0
    assert Activations(0).path(0, frozenset(), LAYERS) == []


def test_shrinking_gives_up_everything_and_keeps_half_as_much_from_then_on() -> None:
    activations = Activations(10**6)
    fill(activations, set(), 1)
    activations.shrink()
    assert (activations.bytes, activations.budget) == (0, 2 * BYTES)
    assert fill(activations, set(), 2) == 0
    assert fill(activations, set(), 3) == 2
