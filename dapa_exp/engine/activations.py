"""What layers made of prompts, kept for later hybrids that have the same weights up to there."""

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
    """What one layer made of some prompts of a batch."""

    places: tuple[int, ...]
    """Of the prompts, in their batch."""
    hidden: torch.Tensor
    """What it hands to the next layer, shape (prompts, tokens, hidden)."""
    keys: torch.Tensor
    """Shape (prompts, heads, tokens, size); so have the values."""
    values: torch.Tensor

    @property
    def bytes(self) -> int:
        return self.hidden.nbytes + self.keys.nbytes + self.values.nbytes

    def without(self, places: Collection[int]) -> Activation:
        """That of the other prompts."""
        left = [i for i, place in enumerate(self.places) if place not in places]
        if len(left) == len(self.places):
            return self
        return Activation(tuple(self.places[i] for i in left), self.hidden[left], self.keys[left], self.values[left])


Made = Sequence[Activation]
"""What one layer made of prompts that were read one after the other, no prompt twice."""


@dataclass(frozen=True)
class Key:
    """What decides an activation: the prompts, and the weights of all layers that they went through."""

    batch: int
    layer: int
    units: frozenset[str]
    """The transplanted units in this layer and those below. All else is the student's."""


class Activations:
    """Holds at most `budget` bytes and, while one is added, one more. The least recently used goes first."""

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self.budget = budget
        self._kept: dict[Key, list[Activation]] = {}
        self._used: dict[Key, int] = {}
        self._clock = 0

    def path(self, batch: int, units: frozenset[str], num_layers: int) -> list[Key]:
        """The keys of a hybrid's layers, for a batch known by its number.

        What the last layer makes is left out: no other hybrid could use it.
        """
        if not self.budget:
            return []
        layer_units = [(layer_of(unit), unit) for unit in units]
        return [
            Key(batch, layer, frozenset(unit for at, unit in layer_units if at <= layer))
            for layer in range(num_layers - 1)
        ]

    def known(self, path: Sequence[Key], places: Iterable[int]) -> list[Made]:
        """What as many of the lowest layers as are kept made of all these prompts."""
        self._clock += 1
        wanted, found = frozenset(places), list[Made]()
        for key in path:
            if not wanted <= self._places(key):
                break
            self._used[key] = self._clock
            found.append(tuple(self._kept[key]))
        return found

    def add(self, key: Key, activation: Activation) -> None:
        """Keep one of the path last asked for, where the budget has room for it."""
        self._used[key] = self._clock
        new = activation.without(self._places(key))
        self._kept.setdefault(key, []).append(new)
        self.bytes += new.bytes
        while self.bytes > self.budget:
            # Of those used together the highest layer's, since it is of no use without those below it.
            dropped = min(self._used, key=lambda key: (self._used[key], -key.layer))
            del self._used[dropped]
            self.bytes -= sum(made.bytes for made in self._kept.pop(dropped))

    def shrink(self) -> None:
        """Keep nothing, and from now on at most half of what was kept."""
        self.budget = self.bytes // 2
        self.clear()

    def clear(self) -> None:
        """Keep nothing of what was kept so far."""
        self.bytes = 0
        self._kept.clear()
        self._used.clear()

    def _places(self, key: Key) -> frozenset[int]:
        return frozenset(place for made in self._kept.get(key, ()) for place in made.places)


@contextmanager
def reuse(
    activations: Activations,
    path: Sequence[Key],
    places: Sequence[int],
    layers: Sequence[nn.Module],
    cache: DynamicCache,
) -> Iterator[int]:
    """While prompts at these places of a batch are read in one pass, the lowest layers hand on what they made before.

    What the others make is kept. Yields how many hand on. What the cache holds already is no part of either.
    """
    known, start = activations.known(path, places), cache.get_seq_length()
    with ExitStack() as stack:
        for layer, made in enumerate(known):
            stack.enter_context(_handing_on(layers[layer], layer, made, places, last=layer == len(known) - 1))
        for key in path[len(known) :]:
            hook = layers[key.layer].register_forward_hook(
                partial(_keep, activations, key, tuple(places), cache, start)
            )
            stack.callback(hook.remove)
        yield len(known)


@contextmanager
def _handing_on(layer: nn.Module, number: int, made: Made, places: Sequence[int], *, last: bool) -> Iterator[None]:
    """Replace what a layer computes; rotary embeddings, masks and all else stay transformers' own business.

    Only the `last` layer that does so has to hand on hidden states; the next one would ignore them.
    """

    def forward(hidden_states: torch.Tensor, *args: Any, past_key_values: DynamicCache, **kwargs: Any) -> torch.Tensor:
        def gathered(states: Callable[[Activation], torch.Tensor]) -> torch.Tensor:
            return _gathered([(one.places, states(one)) for one in made], places, hidden_states.shape[1])

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


def _gathered(made: Sequence[tuple[Sequence[int], torch.Tensor]], places: Sequence[int], width: int) -> torch.Tensor:
    """States of the prompts at these places, shape (prompts, …, tokens, size). Tokens beyond a prompt's are padding."""
    first = made[0][1]
    if len(made) == 1 and list(made[0][0]) == list(places) and first.shape[-2] == width:
        return first
    gathered = first.new_zeros((len(places), *first.shape[1:-2], width, first.shape[-1]))
    lines = {place: line for line, place in enumerate(places)}
    for held, states in made:
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
    made: Any = cache.layers[key.layer]
    keys, values = (
        states[:, :, start:].clone() if start else states  # a view would hold on to all of it
        for states in (made.keys, made.values)
    )
    activations.add(key, Activation(places, output, keys, values))
