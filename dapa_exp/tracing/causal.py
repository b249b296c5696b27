"""Causal tracing: which of an aligned model's states carry its refusal.

The method is that of K. Meng, D. Bau, A. Andonian, Y. Belinkov: Locating and Editing Factual Associations in GPT
(2022), section 2.1 and appendix B:

1. Gaussian noise corrupts the embeddings of the request. The model no longer refuses.
2. One hidden state is restored to its value without noise.
3. The *indirect effect* of that state is p(restored) − p(corrupted), where p is the probability of the teacher's
   token (dapa_exp.tracing.forks). The same difference is taken of the token's log-odds, which tell more where the
   model moves from one refusal to another (F. Zhang, N. Nanda: Towards Best Practices of Activation Patching in
   Language Models, 2024).

The paper corrupts the subject of a fact. We corrupt all of the user's own words and leave the template's markers
alone: noise there would break the model instead of hiding the harm.

A restored state is the output of an MLP, the output of an attention block, or the residual stream after a layer. It
is restored at all tokens of the request, or at the last token before the two answers differ. One MLP or attention
block adds little, so a window of layers around it is restored together (10 of 48 layers in the paper). The residual
stream is restored at a single layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import nn

from dapa_exp.config.search import Localise
from dapa_exp.evaluate.statistics import mean
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.record.localisation import Effect, Kind, TokenPosition
from dapa_exp.tracing.forks import Fork, Readings, read_batch
from dapa_exp.tracing.hooks import Change, replace_outputs

KINDS: tuple[Kind, ...] = get_args(Kind)
POSITIONS: tuple[TokenPosition, ...] = get_args(TokenPosition)
_MODULES = {"mlp": "mlp", "attention": "attention", "residual": "layer"}
"""The module whose output each kind of state is, by its name in the architecture table."""


class Tracer:
    """Traces one model. Every measure is a mean over prompts; a prompt's value is the mean over its noise seeds."""

    def __init__(
        self,
        loaded: LoadedModel,
        model_type: str,
        num_layers: int,
        forks: Sequence[Fork],
        settings: Localise,
        batch_size: int,
    ) -> None:
        """A batch has at most `batch_size` rows. A prompt takes one row for each noise seed."""
        self._loaded = loaded
        self._row = architecture(model_type)
        self._num_layers = num_layers
        self._seeds = settings.seeds
        self._window = settings.window
        size = max(1, batch_size // settings.seeds)
        self._batches = [list(enumerate(forks))[i : i + size] for i in range(0, len(forks), size)]
        self._deviation = settings.noise * _embedding_deviation(loaded, forks)

    @torch.inference_mode()
    def baselines(self) -> tuple[Effect, Effect, Effect]:
        """The model's reading without noise, with noise, and their difference: the total effect."""
        clean = torch.cat([_said(read_batch(self._loaded, _forks(batch))) for batch in self._batches])
        corrupted = torch.cat([self._under_noise(batch, {}) for batch in self._batches])
        return _effect(clean), _effect(corrupted), _effect(clean - corrupted)

    @torch.inference_mode()
    def effects(self, kind: Kind, place: TokenPosition) -> list[Effect]:
        """The indirect effect of one kind of state, restored at `place`, for each layer in order."""
        modules = [self._module(kind, layer) for layer in range(self._num_layers)]
        batches = [self._batch_effects(batch, kind, place, modules) for batch in self._batches]
        return [_effect(values) for values in torch.cat(batches, dim=1)]

    def _batch_effects(
        self, batch: list[tuple[int, Fork]], kind: Kind, place: TokenPosition, modules: list[nn.Module]
    ) -> torch.Tensor:
        """Indirect effects, shape (layers, prompts, 2): the last axis is probability and log-odds."""
        clean = self._clean_states(batch, modules)
        places = self._places(batch, place)
        restored = [_restore(states, places, self._seeds) for states in clean]
        corrupted = self._under_noise(batch, {})
        return torch.stack(
            [
                self._under_noise(batch, {modules[i]: restored[i] for i in self._layers(kind, layer)}) - corrupted
                for layer in range(self._num_layers)
            ]
        )

    def _under_noise(self, batch: list[tuple[int, Fork]], changes: dict[nn.Module, Change]) -> torch.Tensor:
        """Readings with noise and `changes` applied, mean over seeds, shape (prompts, 2)."""
        embeddings = self._loaded.model.get_input_embeddings()
        rows = [fork for fork in _forks(batch) for _ in range(self._seeds)]
        with replace_outputs({embeddings: self._corrupt(batch), **changes}):
            said = _said(read_batch(self._loaded, rows))
        return said.reshape(len(batch), self._seeds, 2).mean(1)

    def _clean_states(self, batch: list[tuple[int, Fork]], modules: list[nn.Module]) -> list[torch.Tensor]:
        """The output of each module without noise, shape (prompts, tokens, hidden)."""
        kept: dict[nn.Module, torch.Tensor] = {}

        def keep(module: nn.Module) -> Change:
            return lambda states: kept.setdefault(module, states)

        with replace_outputs({module: keep(module) for module in modules}):
            read_batch(self._loaded, _forks(batch))
        return [kept[module] for module in modules]

    def _corrupt(self, batch: list[tuple[int, Fork]]) -> Change:
        """Adds noise to the request tokens. The noise depends on the prompt's index and the seed, not on the batch."""

        def change(states: torch.Tensor) -> torch.Tensor:
            noise = torch.zeros(states.shape)
            length = states.shape[1]
            for row, (index, fork) in enumerate(batch):
                places = _on_the_right(fork, length)
                for seed in range(self._seeds):
                    generator = torch.Generator().manual_seed(index * self._seeds + seed)
                    drawn = torch.randn(len(places), states.shape[2], generator=generator)
                    noise[row * self._seeds + seed, places.start : places.stop] = drawn
            return states + (self._deviation * noise).to(states)

        return change

    def _places(self, batch: list[tuple[int, Fork]], place: TokenPosition) -> torch.Tensor:
        """A mask of the tokens whose states are restored, shape (rows, tokens, 1)."""
        length = max(len(fork.context) for fork in _forks(batch))
        chosen = torch.zeros(len(batch), length, 1, dtype=torch.bool)
        for row, fork in enumerate(_forks(batch)):
            places = _on_the_right(fork, length) if place == "request" else range(length - 1, length)
            chosen[row, places.start : places.stop] = True
        return chosen.repeat_interleave(self._seeds, 0)

    def _layers(self, kind: Kind, layer: int) -> range:
        """The window of layers that is restored together for the state at `layer`."""
        if kind == "residual":
            return range(layer, layer + 1)
        start = max(0, layer - self._window // 2)
        return range(start, min(layer - self._window // 2 + self._window, self._num_layers))

    def _module(self, kind: Kind, layer: int) -> nn.Module:
        return self._loaded.model.get_submodule(self._row.submodule(layer, _MODULES[kind]))


def _forks(batch: Sequence[tuple[int, Fork]]) -> list[Fork]:
    return [fork for _, fork in batch]


def _said(readings: Readings) -> torch.Tensor:
    """Probability and log-odds of the teacher's token, shape (rows, 2)."""
    return torch.stack([readings.probability, readings.log_odds], dim=1).cpu()


def _effect(said: torch.Tensor) -> Effect:
    """The effect as means over prompts, with intervals. `said` has shape (prompts, 2)."""
    probability, log_odds = said.T.tolist()
    return Effect(probability=mean(probability), log_odds=mean(log_odds))


def _on_the_right(fork: Fork, length: int) -> range:
    """The token positions of the request in a row that is padded on the left to `length`."""
    shift = length - len(fork.context)
    return range(fork.request.start + shift, fork.request.stop + shift)


def _restore(clean: torch.Tensor, places: torch.Tensor, seeds: int) -> Change:
    """Replaces masked states by clean ones, shape (prompts, tokens, hidden), in the rows of all seeds."""
    return lambda states: torch.where(places.to(states.device), clean.repeat_interleave(seeds, 0), states)


@torch.inference_mode()
def _embedding_deviation(loaded: LoadedModel, forks: Sequence[Fork]) -> float:
    """Standard deviation of all embedding values of the requests' tokens."""
    ids = [token for fork in forks for token in fork.context[fork.request.start : fork.request.stop]]
    embeddings = loaded.model.get_input_embeddings()
    return float(embeddings(torch.tensor(ids, device=loaded.model.device)).float().std())
