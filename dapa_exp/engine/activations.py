"""What layers made of prompts, kept for later hybrids that have the same weights up to there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from dapa_exp.models.architecture import layer_of


@dataclass(frozen=True)
class Activation:
    """What one layer made of a batch of prompts."""

    hidden: torch.Tensor
    """What it hands to the next layer, shape (rows, tokens, hidden)."""
    keys: torch.Tensor
    """Shape (rows, heads, tokens, size); so have the values."""
    values: torch.Tensor

    @property
    def bytes(self) -> int:
        return self.hidden.nbytes + self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class Key:
    """What decides an activation: the prompts, and the weights of all layers that they went through."""

    batch: int
    layer: int
    carried: frozenset[str]
    """The transplanted units in this layer and those below. All else is the student's."""


class Activations:
    """Holds at most `budget` bytes and, while one is added, one more. The least recently used goes first."""

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self.budget = budget
        self._kept: dict[Key, Activation] = {}
        self._used: dict[Key, int] = {}
        self._clock = 0

    def path(self, batch: int, carried: frozenset[str], num_layers: int) -> list[Key]:
        """The keys of a hybrid's layers, for a batch known by its number.

        What the last layer makes is left out: no other hybrid could use it.
        """
        if not self.budget:
            return []
        layer_units = [(layer_of(unit), unit) for unit in carried]
        return [
            Key(batch, layer, frozenset(unit for at, unit in layer_units if at <= layer))
            for layer in range(num_layers - 1)
        ]

    def known(self, path: Sequence[Key]) -> list[Activation]:
        """The activations of as many of the lowest layers as are kept."""
        self._clock += 1
        found = []
        for key in path:
            if key not in self._kept:
                break
            self._used[key] = self._clock
            found.append(self._kept[key])
        return found

    def add(self, key: Key, activation: Activation) -> None:
        """Keep one of the path last asked for, where the budget has room for it."""
        self._kept[key], self._used[key] = activation, self._clock
        self.bytes += activation.bytes
        while self.bytes > self.budget:
            # Of those used together the highest layer's, since it is of no use without those below it.
            dropped = min(self._used, key=lambda key: (self._used[key], -key.layer))
            del self._used[dropped]
            self.bytes -= self._kept.pop(dropped).bytes


@contextmanager
def reuse(
    activations: Activations, path: Sequence[Key], layers: Sequence[nn.Module], cache: DynamicCache
) -> Iterator[int]:
    """While a batch is read in one pass, the lowest layers hand on what they made before.

    What the others make is kept. Yields how many hand on. What the cache holds already is no part of either.
    """
    known, start = activations.known(path), cache.get_seq_length()
    with ExitStack() as stack:
        for place, activation in enumerate(known):
            stack.enter_context(_handing_on(layers[place], place, activation))
        for key in path[len(known) :]:
            hook = layers[key.layer].register_forward_hook(partial(_keep, activations, key, cache, start))
            stack.callback(hook.remove)
        yield len(known)


@contextmanager
def _handing_on(layer: nn.Module, place: int, made: Activation) -> Iterator[None]:
    """Replace what a layer computes; rotary embeddings, masks and all else stay transformers' own business."""

    def forward(hidden_states: torch.Tensor, *args: Any, past_key_values: DynamicCache, **kwargs: Any) -> torch.Tensor:
        past_key_values.update(made.keys, made.values, place)
        return made.hidden

    own: Callable[..., Any] | None = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:  # such as accelerate's, where layers are spread over devices
            layer.forward = own


def _keep(
    activations: Activations,
    key: Key,
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
    activations.add(key, Activation(output, keys, values))
