"""Causal tracing: which of an aligned model's states carry its refusal.

K. Meng, D. Bau, A. Andonian, Y. Belinkov: Locating and Editing Factual Associations in GPT (2022), section 2.1 and
appendix B. The embeddings of the request are corrupted by Gaussian noise, which costs the model its refusal. Then
one state is restored to what it is without the noise, and the *indirect effect* is what this brings back: the
probability of the teacher's token (dapa_exp.tracing.forks), p(restored) − p(corrupted), and its log-odds, which tell
more where one refusal of several changes places with another (F. Zhang, N. Nanda: Towards Best Practices of
Activation Patching in Language Models, 2024).

What is corrupted there is the subject of a fact. Here it is all of the user's own words, and none of the template's:
noise on its markers would break the model rather than make it miss the harm. Restored is the output of the MLP,
the output of attention, or the residual stream behind the layer, either at all tokens of the request or at the last
token before the answers part. For MLP and attention, which add a little each, a window of layers around the one
in question is restored at once (10 of 48 layers in the paper); for the residual stream always a single layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import nn

from dapa_exp.config.schema import Localise
from dapa_exp.evaluate.statistics import mean
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.record.localisation import Effect, Kind, Place
from dapa_exp.tracing.forks import Fork, Readings, read_batch
from dapa_exp.tracing.hooks import Change, changed

KINDS: tuple[Kind, ...] = get_args(Kind)
PLACES: tuple[Place, ...] = get_args(Place)
_MODULES = {"mlp": "mlp", "attention": "attention", "residual": "layer"}
"""What puts a state out, in the words of the architecture table."""


class Tracer:
    """Traces one model. Every measure is a mean over prompts, each being the mean over its noise seeds."""

    def __init__(
        self,
        loaded: LoadedModel,
        model_type: str,
        num_layers: int,
        forks: Sequence[Fork],
        settings: Localise,
        batch_size: int,
    ) -> None:
        """A batch holds `batch_size` rows: as many prompts as that allows, each under all its seeds."""
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
        """What the model says clean, what it says corrupted, and the difference, the total effect."""
        clean = torch.cat([_said(read_batch(self._loaded, _forks(batch))) for batch in self._batches])
        corrupted = torch.cat([self._under_noise(batch, {}) for batch in self._batches])
        return _effect(clean), _effect(corrupted), _effect(clean - corrupted)

    @torch.inference_mode()
    def effects(self, kind: Kind, place: Place) -> list[Effect]:
        """The indirect effect of each layer's state of a kind at a place, in layer order."""
        modules = [self._module(kind, layer) for layer in range(self._num_layers)]
        batches = [self._batch_effects(batch, kind, place, modules) for batch in self._batches]
        return [_effect(values) for values in torch.cat(batches, dim=1)]

    def _batch_effects(
        self, batch: list[tuple[int, Fork]], kind: Kind, place: Place, modules: list[nn.Module]
    ) -> torch.Tensor:
        """Shape (layers, prompts, 2): what restoring each layer brings back."""
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
        """What the model says under noise and the changes, mean over seeds, shape (prompts, 2)."""
        embeddings = self._loaded.model.get_input_embeddings()
        rows = [fork for fork in _forks(batch) for _ in range(self._seeds)]
        with changed({embeddings: self._corrupt(batch), **changes}):
            said = _said(read_batch(self._loaded, rows))
        return said.reshape(len(batch), self._seeds, 2).mean(1)

    def _clean_states(self, batch: list[tuple[int, Fork]], modules: list[nn.Module]) -> list[torch.Tensor]:
        """What each module puts out without noise, shape (prompts, tokens, hidden)."""
        kept: dict[nn.Module, torch.Tensor] = {}

        def keep(module: nn.Module) -> Change:
            return lambda states: kept.setdefault(module, states)

        with changed({module: keep(module) for module in modules}):
            read_batch(self._loaded, _forks(batch))
        return [kept[module] for module in modules]

    def _corrupt(self, batch: list[tuple[int, Fork]]) -> Change:
        """Adds noise to the requests; that of a prompt depends on its place among the forks and on its seed only."""

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

    def _places(self, batch: list[tuple[int, Fork]], place: Place) -> torch.Tensor:
        """Which states are restored, shape (rows, tokens, 1)."""
        length = max(len(fork.context) for fork in _forks(batch))
        chosen = torch.zeros(len(batch), length, 1, dtype=torch.bool)
        for row, fork in enumerate(_forks(batch)):
            places = _on_the_right(fork, length) if place == "request" else range(length - 1, length)
            chosen[row, places.start : places.stop] = True
        return chosen.repeat_interleave(self._seeds, 0)

    def _layers(self, kind: Kind, layer: int) -> range:
        """The layers restored together, for a state of a kind at a layer."""
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
    """The means over prompts."""
    probability, log_odds = said.T.tolist()
    return Effect(probability=mean(probability), log_odds=mean(log_odds))


def _on_the_right(fork: Fork, length: int) -> range:
    """The places of the request in a row padded on the left to a length."""
    shift = length - len(fork.context)
    return range(fork.request.start + shift, fork.request.stop + shift)


def _restore(clean: torch.Tensor, places: torch.Tensor, seeds: int) -> Change:
    """Puts clean states, shape (prompts, tokens, hidden), back into every seed's row, at the given places."""
    return lambda states: torch.where(places.to(states.device), clean.repeat_interleave(seeds, 0), states)


@torch.inference_mode()
def _embedding_deviation(loaded: LoadedModel, forks: Sequence[Fork]) -> float:
    """Standard deviation over all elements of the embeddings of the requests' tokens."""
    ids = [token for fork in forks for token in fork.context[fork.request.start : fork.request.stop]]
    embeddings = loaded.model.get_input_embeddings()
    return float(embeddings(torch.tensor(ids, device=loaded.model.device)).float().std())
