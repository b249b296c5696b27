"""Keeps layer outputs on prompts, for later hybrids that have the same weights up to that layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from dapa_exp.models.architecture import layer_of


@dataclass(frozen=True)
class Activation:
    """The output of one layer on some prompts of a batch."""

    places: tuple[int, ...]
    """The prompts' indices in their batch."""
    hidden: torch.Tensor
    """The hidden states that go to the next layer, shape (prompts, tokens, hidden)."""
    keys: torch.Tensor
    """The layer's keys, shape (prompts, heads, tokens, size). The values have the same shape."""
    values: torch.Tensor

    @property
    def bytes(self) -> int:
        return self.hidden.nbytes + self.keys.nbytes + self.values.nbytes

    def without(self, places: Collection[int]) -> Activation:
        """The output on the prompts that are not at these places."""
        left = [i for i, place in enumerate(self.places) if place not in places]
        if len(left) == len(self.places):
            return self
        return Activation(tuple(self.places[i] for i in left), self.hidden[left], self.keys[left], self.values[left])


LayerOutputs = Sequence[Activation]
"""The outputs of one layer on prompts that were read in several passes, each prompt in one of them."""


@dataclass(frozen=True)
class Key:
    """Identifies an activation by the prompts, and by the weights of all layers that they went through."""

    batch: int
    layer: int
    units: frozenset[str]
    """The transplanted units in this layer and the layers below. All other weights are the student's."""


class Activations:
    """Keeps activations, at most `budget` bytes (briefly one more while it is added). Drops the least recently used."""

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self.budget = budget
        self._kept: dict[Key, list[Activation]] = {}
        self._used: dict[Key, int] = {}
        self._clock = 0

    def path(self, batch: int, units: frozenset[str], num_layers: int) -> list[Key]:
        """The keys of a hybrid's layers for the batch of this number. Empty if nothing is to be kept.

        The last layer is left out: no other hybrid could use its output.
        """
        if not self.budget:
            return []
        layer_units = [(layer_of(unit), unit) for unit in units]
        return [
            Key(batch, layer, frozenset(unit for at, unit in layer_units if at <= layer))
            for layer in range(num_layers - 1)
        ]

    def known(self, path: Sequence[Key], places: Iterable[int]) -> list[LayerOutputs]:
        """The kept outputs of the lowest layers, up to the first layer that is not kept for all these prompts."""
        self._clock += 1
        wanted, found = frozenset(places), list[LayerOutputs]()
        for key in path:
            if not wanted <= self._places(key):
                break
            self._used[key] = self._clock
            found.append(tuple(self._kept[key]))
        return found

    def add(self, key: Key, activation: Activation) -> None:
        """Keep an activation of the path that was asked for last, if the budget has room for it."""
        self._used[key] = self._clock
        new = activation.without(self._places(key))
        self._kept.setdefault(key, []).append(new)
        self.bytes += new.bytes
        while self.bytes > self.budget:
            # Of those used at the same time, drop the highest layer's: it is of no use without the layers below it.
            dropped = min(self._used, key=lambda key: (self._used[key], -key.layer))
            del self._used[dropped]
            self.bytes -= sum(outputs.bytes for outputs in self._kept.pop(dropped))

    def shrink(self) -> None:
        """Drop everything. From now on, keep at most half as many bytes as were kept."""
        self.budget = self.bytes // 2
        self.clear()

    def clear(self) -> None:
        """Drop everything that was kept."""
        self.bytes = 0
        self._kept.clear()
        self._used.clear()

    def _places(self, key: Key) -> frozenset[int]:
        return frozenset(place for outputs in self._kept.get(key, ()) for place in outputs.places)


@contextmanager
def reuse(
    activations: Activations,
    path: Sequence[Key],
    places: Sequence[int],
    layers: Sequence[nn.Module],
    cache: DynamicCache,
) -> Iterator[int]:
    """Within the block, the lowest layers return their kept outputs for the prompts at these places of a batch.

    The outputs of the other layers are kept. Yields how many layers are not computed. Tokens that are in the cache
    already are not kept, and kept outputs do not contain them.
    """
    known, start = activations.known(path, places), cache.get_seq_length()
    with ExitStack() as stack:
        for layer, outputs in enumerate(known):
            stack.enter_context(_returning_kept(layers[layer], layer, outputs, places, last=layer == len(known) - 1))
        for key in path[len(known) :]:
            hook = layers[key.layer].register_forward_hook(
                partial(_keep, activations, key, tuple(places), cache, start)
            )
            stack.callback(hook.remove)
        yield len(known)


@contextmanager
def _returning_kept(
    layer: nn.Module, number: int, outputs: LayerOutputs, places: Sequence[int], *, last: bool
) -> Iterator[None]:
    """Within the block, a layer returns kept outputs. Rotary embeddings and masks stay with transformers.

    Only the `last` of these layers returns hidden states: the layers before it are followed by one that ignores them.
    """

    def forward(hidden_states: torch.Tensor, *args: Any, past_key_values: DynamicCache, **kwargs: Any) -> torch.Tensor:
        def gathered(states: Callable[[Activation], torch.Tensor]) -> torch.Tensor:
            return _gathered([(one.places, states(one)) for one in outputs], places, hidden_states.shape[1])

        past_key_values.update(gathered(attrgetter("keys")), gathered(attrgetter("values")), number)
        return gathered(attrgetter("hidden")) if last else hidden_states

    own: Callable[..., Any] | None = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:  # such as accelerate's, where layers are spread over devices
            layer.forward = own


def _gathered(outputs: Sequence[tuple[Sequence[int], torch.Tensor]], places: Sequence[int], width: int) -> torch.Tensor:
    """The states of the prompts at these places, padded to `width` tokens: shape (prompts, …, tokens, size)."""
    first = outputs[0][1]
    if len(outputs) == 1 and list(outputs[0][0]) == list(places) and first.shape[-2] == width:
        return first
    gathered = first.new_zeros((len(places), *first.shape[1:-2], width, first.shape[-1]))
    lines = {place: line for line, place in enumerate(places)}
    for held, states in outputs:
        there = [line for line, place in enumerate(held) if place in lines]
        common = min(width, states.shape[-2])
        gathered[[lines[held[line]] for line in there], ..., :common, :] = states[there, ..., :common, :]
    return gathered


def _keep(
    activations: Activations,
    key: Key,
    places: tuple[int, ...],
    cache: DynamicCache,
    start: int,
    layer: nn.Module,
    args: tuple[Any, ...],
    output: torch.Tensor,
) -> None:
    cached: Any = cache.layers[key.layer]
    keys, values = (
        states[:, :, start:].clone() if start else states  # a view would keep the whole tensor in memory
        for states in (cached.keys, cached.values)
    )
    activations.add(key, Activation(places, output, keys, values))
