"""Causal tracing: restoring everything restores the answer, restoring nothing changes nothing."""

from __future__ import annotations

import pytest
import torch

from dapa_exp.config.search import Localise
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import prompt
from dapa_exp.record.localisation import Effect
from dapa_exp.tracing.causal import KINDS, POSITIONS, Tracer, _restore
from dapa_exp.tracing.forks import Fork, find_forks
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import CONFIGS, tiny_model

PROMPTS = [prompt("a", "how do i hack a server?"), prompt("b", "please help me rob a museum.")]
LAYERS = 3
SEEDS = 2


@pytest.fixture(params=CONFIGS)
def tracer(request: pytest.FixtureRequest) -> Tracer:
    return make(request.param)


def make(family: str, batch_size: int = 4, window: int = 1) -> Tracer:
    return tracer_of(loaded_of(family), family, batch_size, window)


def tracer_of(loaded: LoadedModel, family: str, batch_size: int = 4, window: int = 1) -> Tracer:
    settings = Localise(noise=3.0, seeds=SEEDS, window=window)
    return Tracer(loaded, family, LAYERS, forks(loaded), settings, batch_size)


def loaded_of(family: str) -> LoadedModel:
    tokenizer = tokenizers.make(family)
    tokenizer.padding_side = "left"
    model = tiny_model(family, 1, vocab_size=len(tokenizer)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)  # untrained weights are too small for noise to show
    return LoadedModel(model, tokenizer)


def forks(loaded: LoadedModel) -> list[Fork]:
    return find_forks(loaded, PROMPTS, ["sorry", "sorry"], ["sure", "i can"])


def values(effects: list[Effect]) -> list[float]:
    return [effect.log_odds.value for effect in effects]


def test_the_last_residual_at_the_last_token_brings_back_the_total_effect(tracer: Tracer) -> None:
    _, _, total = tracer.baselines()
    assert abs(total.log_odds.value) > 1e-3
    assert values(tracer.effects("residual", "last"))[-1] == pytest.approx(total.log_odds.value, abs=1e-4)


def test_the_last_residual_at_the_request_comes_too_late(tracer: Tracer) -> None:
    assert values(tracer.effects("residual", "request"))[-1] == pytest.approx(0.0, abs=1e-5)


def test_every_site_has_an_effect_a_layer_over_all_prompts(tracer: Tracer) -> None:
    for kind in KINDS:
        for place in POSITIONS:
            found = tracer.effects(kind, place)
            assert len(found) == LAYERS
            assert all(effect.probability.n == len(PROMPTS) for effect in found)


def test_the_same_noise_every_time_and_whatever_the_batch() -> None:
    one, other = (
        values(make("llama").effects("mlp", "last")),
        values(make("llama", batch_size=1).effects("mlp", "last")),
    )
    assert one == values(make("llama").effects("mlp", "last"))
    assert one == pytest.approx(other, abs=1e-5)


def test_noise_is_on_the_request_alone_as_strong_as_asked_and_another_for_each_seed() -> None:
    loaded, seen = loaded_of("llama"), []
    loaded.model.get_submodule("model.layers.0").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tracer_of(loaded, "llama").baselines()
    clean, corrupted = seen
    noise = corrupted - clean.repeat_interleave(SEEDS, 0)
    noisy = noise.abs().sum(-1) > 0
    requests = [fork.context[fork.request.start : fork.request.stop] for fork in forks(loaded)]
    assert noisy.sum(-1).tolist() == [len(request) for request in requests for _ in range(SEEDS)]
    embedded = loaded.model.get_input_embeddings()(torch.tensor([token for request in requests for token in request]))
    assert noise[noisy].std().item() == pytest.approx(3.0 * embedded.std().item(), rel=0.2)
    assert not torch.equal(noise[0], noise[1])


def test_a_window_over_all_layers_restores_all_of_them_at_once() -> None:
    whole = values(make("llama", window=2 * LAYERS).effects("mlp", "last"))
    assert whole[0] == pytest.approx(whole[-1], abs=1e-6)
    assert whole != pytest.approx(values(make("llama").effects("mlp", "last")), abs=1e-6)


def test_a_state_is_restored_on_the_device_of_its_layer() -> None:
    states = torch.zeros(SEEDS, 3, 4, device="meta")  # as on runtime.device=auto, where layers lie on several
    places = torch.ones(SEEDS, 3, 1, dtype=torch.bool)
    assert _restore(states[:1], places, SEEDS)(states).device == states.device
