"""Changes by layer, where it is known which layers differ."""

from __future__ import annotations

import copy

import pytest
import torch

from dapa_exp.evaluate.metrics.change_by_layer import changes, states
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import prompt
from tests.tiny import EVERY_CONFIG, tiny_loaded

PROMPTS = [prompt(str(i), text) for i, text in enumerate(["bake a cake", "how do i fix a lamp?", "hi"])]


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_layers_below_the_transplant_do_not_change_and_those_above_do(family: str) -> None:
    student = tiny_loaded(family, 3)
    hybrid = LoadedModel(copy.deepcopy(student.model), student.tokenizer)
    with torch.no_grad():
        for tensor in hybrid.model.model.layers[1].mlp.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)))
    usual = student.model.config._attn_implementation
    first, *rest = found = changes(states(student, PROMPTS, 2), states(hybrid, PROMPTS, 2))
    assert [change.layer for change in found] == [0, 1, 2]
    assert first.hidden.value == pytest.approx(0.0, abs=1e-6)
    assert all(change.hidden.value > 1e-3 and change.hidden.n == len(PROMPTS) for change in rest)
    # The attention of layer 1 comes before its MLP.
    assert [bool(change.attention and change.attention.value > 1e-6) for change in found] == [False, False, True]
    assert student.model.config._attn_implementation == usual


def test_padding_does_not_move_the_states() -> None:
    loaded = tiny_loaded("llama", 3)
    together, alone = states(loaded, PROMPTS, 3), states(loaded, PROMPTS, 1)
    for i in range(len(PROMPTS)):
        assert torch.allclose(together["0.1.hidden"][i], alone[f"{i}.1.hidden"][0], atol=1e-5)
