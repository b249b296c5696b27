"""Weight-space attribution patching: what every unit's transplant would do, from gradients alone.

Attribution patching (N. Nanda, 2023; A. Syed, C. Rager, A. Conmy, 2023) replaces the patching of one activation after
the other by its first-order estimate, gradient times difference. What is patched here are weights: to first
order, transplanting a unit changes the refusal log-odds (dapa_exp.localise.forks) by

    Σ over the unit's tensors  ⟨gradient, W_teacher − W_student⟩.

One forward and one backward pass give this for all units at once. The gradient at the student alone foretells what
a unit adds by itself, and misses units that matter only once others are there; the gradient with everything
transplanted foretells what its removal costs, and misses units that others can stand in for. The score is the mean
of the two: the trapezoidal rule along the straight line from student to teacher, that is, integrated gradients
(M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks, 2017) with two points.

Memory stays near that of inference. Layers are recomputed in the backward pass, so that one layer's activations are
held at a time; and as soon as a parameter has its gradient, its product with the difference is taken, with the other
model's tensor read for that moment, and the gradient is dropped.

It is an estimate with known false negatives: order units by it, never exclude one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dapa_exp.localise.forks import Fork, read_batch
from dapa_exp.models.architecture import Part, Place, architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.search.priors.difference import blocks, dot
from dapa_exp.transplant.hybrid import Hybrid


def attribution(
    hybrid: Hybrid, loaded: LoadedModel, pair: Pair, forks: Sequence[Fork], batch_size: int
) -> dict[str, float]:
    """Estimate, in nats of mean refusal log-odds, what each unit's transplant adds; negative ones do harm."""
    hybrid.carry(())
    added = estimated_changes(loaded, pair, pair.teacher, forks, batch_size)
    hybrid.carry(pair.units)
    lost = estimated_changes(loaded, pair, pair.student, forks, batch_size)
    hybrid.carry(())
    return {unit: (added[unit] - lost[unit]) / 2 for unit in pair.units}


def estimated_changes(
    loaded: LoadedModel, pair: Pair, target: TensorReader, forks: Sequence[Fork], batch_size: int
) -> dict[str, float]:
    """First-order change of the mean log-odds if a unit's tensors became the target's, for every unit."""
    row = architecture(pair.model_type)
    held: defaultdict[str, list[tuple[Part, Place]]] = defaultdict(list)
    for part in (part for parts in pair.units.values() for part in parts):
        place = row.place(part.tensor)
        held[place.parameter].append((part, place))
    layers = [loaded.model.get_submodule(row.submodule(layer, "layer")) for layer in range(pair.num_layers)]
    by_part: defaultdict[Part, float] = defaultdict(float)
    with recomputed(layers), _dotted(loaded.model, held, target, by_part):
        for start in range(0, len(forks), batch_size):
            (read_batch(loaded, forks[start : start + batch_size]).log_odds.sum() / len(forks)).backward()
    return {unit: sum(by_part[part] for part in parts) for unit, parts in pair.units.items()}


@contextmanager
def _dotted(
    model: nn.Module, held: Mapping[str, list[tuple[Part, Place]]], target: TensorReader, sums: dict[Part, float]
) -> Iterator[None]:
    """Within the block, a backward pass adds ⟨gradient, target − weight⟩ to each part's sum and keeps no gradient.

    `held` says which parts of the checkpoint a parameter of the model holds, and where.
    """

    def take(name: str, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        for part, place in held[name]:
            gradient, weight = (part.of(place.of(tensor)) for tensor in (parameter.grad, parameter))
            for g, goal, w in blocks(gradient, target.read(part), weight):
                sums[part] += dot(g, goal - w)
        parameter.grad = None

    parameters = dict(model.named_parameters())
    needed_gradients = {name: parameter.requires_grad for name, parameter in parameters.items()}
    with ExitStack() as stack:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in held)
            stack.callback(parameter.requires_grad_, needed_gradients[name])
        for name in held:
            stack.callback(parameters[name].register_post_accumulate_grad_hook(partial(take, name)).remove)
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
