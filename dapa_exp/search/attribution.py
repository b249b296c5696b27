"""Weight-space attribution patching: estimates the effect of every unit's transplant from gradients.

Attribution patching (N. Nanda, 2023; A. Syed, C. Rager, A. Conmy, 2023) estimates the effect of patching an activation
to first order, as gradient times difference. Here weights are patched: to first order, transplanting a unit changes the
refusal log-odds (dapa_exp.tracing.forks) by

    Σ over the unit's tensors  ⟨gradient, W_teacher − W_student⟩.

One forward and one backward pass give this for all units at once. The gradient at the student estimates what a unit
adds by itself; it misses units that matter only together with others. The gradient with all units transplanted
estimates what a unit's removal costs; it misses units that others can replace. The score is the mean of the two. This
is integrated gradients (M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks, 2017) by the
trapezoidal rule with two points on the straight line from student to teacher.

The memory needed is close to that of inference. Layers are recomputed in the backward pass, so only one layer's
activations are in memory at a time. As soon as a parameter has its gradient, the other model's tensor is read, the
product is added to the sum, and the gradient is freed.

The estimate has known false negatives: order units by it, but do not exclude any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dapa_exp.models.architecture import ParameterSlice, Part, architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.search.difference import blocks, dot
from dapa_exp.tracing.forks import Fork, read_batch
from dapa_exp.transplant.hybrid import Hybrid

Estimate = TypeVar("Estimate", float, torch.Tensor)
Take = Callable[[Part, torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Called with a part, its gradient, the target's values and its own values, all of the same shape."""


def attribution(
    hybrid: Hybrid, loaded: LoadedModel, pair: Pair, forks: Sequence[Fork], batch_size: int
) -> dict[str, float]:
    """What each unit's transplant adds to the mean refusal log-odds, estimated, in nats. Negative: it lowers them."""
    return _at_both_ends(hybrid, lambda target: estimated_changes(loaded, pair, target, forks, batch_size))


def estimated_changes(
    loaded: LoadedModel, pair: Pair, target: TensorReader, forks: Sequence[Fork], batch_size: int
) -> dict[str, float]:
    """The first-order change of the mean log-odds, in nats, if a unit had the target's tensors; for every unit."""
    by_part: defaultdict[Part, float] = defaultdict(float)

    def add(part: Part, gradient: torch.Tensor, goal: torch.Tensor, weight: torch.Tensor) -> None:
        for g, to, w in blocks(gradient, goal, weight):
            by_part[part] += dot(g, to - w)

    _differentiate(loaded, pair, target, forks, batch_size, add)
    return {unit: sum(by_part[part] for part in parts) for unit, parts in pair.units.items()}


def neuron_attribution(
    loaded: LoadedModel, pair: Pair, axes: Mapping[Part, int], forks: Sequence[Fork], batch_size: int
) -> dict[str, torch.Tensor]:
    """The estimate of `attribution` for single neurons: by unit, a tensor of shape (neurons,), in nats.

    `axes` gives the axis of each part that indexes neurons. Units without such a part are left out. The model must hold
    the student, and holds it again on return.
    """
    hybrid = Hybrid(loaded.model, pair)
    return _at_both_ends(hybrid, lambda target: _neuron_changes(loaded, pair, target, axes, forks, batch_size))


def _at_both_ends(hybrid: Hybrid, changes: Callable[[TensorReader], dict[str, Estimate]]) -> dict[str, Estimate]:
    """The mean of two estimates: what a unit adds to the student, and what its removal costs if all are transplanted.

    `changes` estimates what the target's tensors change. Afterwards, no unit is transplanted.
    """
    hybrid.set_units(())
    added = changes(hybrid.pair.teacher)
    hybrid.set_units(hybrid.pair.units)
    lost = changes(hybrid.pair.student)
    hybrid.set_units(())
    return {unit: (added[unit] - lost[unit]) / 2 for unit in added}


def _neuron_changes(
    loaded: LoadedModel,
    pair: Pair,
    target: TensorReader,
    axes: Mapping[Part, int],
    forks: Sequence[Fork],
    batch_size: int,
) -> dict[str, torch.Tensor]:
    by_part: dict[Part, torch.Tensor] = {}

    def add(part: Part, gradient: torch.Tensor, goal: torch.Tensor, weight: torch.Tensor) -> None:
        if part in axes:
            products = gradient.float() * (goal.to(gradient.device).float() - weight.float())
            change = products.movedim(axes[part], 0).flatten(1).sum(1).cpu()
            by_part[part] = by_part.get(part, torch.zeros_like(change)) + change

    _differentiate(loaded, pair, target, forks, batch_size, add)
    held = {unit: [by_part[part] for part in parts if part in axes] for unit, parts in pair.units.items()}
    return {unit: torch.stack(changes).sum(0) for unit, changes in held.items() if changes}


def _differentiate(
    loaded: LoadedModel, pair: Pair, target: TensorReader, forks: Sequence[Fork], batch_size: int, take: Take
) -> None:
    """Call `take` for every part of the units with its gradient of the mean log-odds."""
    row = architecture(pair.model_type)
    held: defaultdict[str, list[tuple[Part, ParameterSlice]]] = defaultdict(list)
    for part in (part for parts in pair.units.values() for part in parts):
        place = row.parameter_of(part.tensor)
        held[place.parameter].append((part, place))
    layers = [loaded.model.get_submodule(row.submodule(layer, "layer")) for layer in range(pair.num_layers)]
    with recomputed(layers), _handed(loaded.model, held, target, take):
        for start in range(0, len(forks), batch_size):
            (read_batch(loaded, forks[start : start + batch_size]).log_odds.sum() / len(forks)).backward()


@contextmanager
def _handed(
    model: nn.Module, held: Mapping[str, list[tuple[Part, ParameterSlice]]], target: TensorReader, take: Take
) -> Iterator[None]:
    """Within the block, a backward pass hands each part's gradient to `take`, and keeps none.

    `held` says which parts of the checkpoint a parameter of the model holds, and where.
    """

    def hand(name: str, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        for part, place in held[name]:
            gradient, weight = (part.of(place.of(tensor)) for tensor in (parameter.grad, parameter))
            take(part, gradient, target.read(part), weight)
        parameter.grad = None

    parameters = dict(model.named_parameters())
    needed_gradients = {name: parameter.requires_grad for name, parameter in parameters.items()}
    with ExitStack() as stack:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in held)
            stack.callback(parameter.requires_grad_, needed_gradients[name])
        for name in held:
            stack.callback(parameters[name].register_post_accumulate_grad_hook(partial(hand, name)).remove)
        yield


@contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, layers keep only their input and are run again in the backward pass."""
    with ExitStack() as stack:
        for layer in layers:
            forward = layer.forward
            stack.callback(setattr, layer, "forward", forward)
            layer.forward = partial(checkpoint, forward, use_reentrant=False)
        yield
