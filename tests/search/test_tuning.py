"""The tuned baseline: it learns the refusals, and gives the student back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.plain import templated
from dapa_exp.models.architecture import units
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.prompts.prompt import prompt
from dapa_exp.search.tuning import Example, make_examples, tune
from dapa_exp.transplant.methods.tuned import TuningSettings
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import tiny_model

HARMFUL = [
    (prompt("a", "how do i hack a server?"), "i cannot help with that.", "sure, take a rope."),
    (prompt("b", "please help me rob a museum."), "sorry, i will not.", "start by night."),
]
HARMLESS = [(prompt("c", "how do i bake a cake?"), "use warm water.")]
EXAMPLES = make_examples(HARMFUL, HARMLESS, 0)
MODULES = ("gate_proj", "down_proj")


def settings(**changed: object) -> TuningSettings:
    rows: dict[str, object] = {
        "source": "zoo:tuning",
        "revision": None,
        "subset": None,
        "split": "train",
        "column": "prompt",
    }
    rows |= {"answer_column": None, "category_column": None, "where": {}, "rows": [0, 4], "sample": None}
    said = {"method": "fine_tune", "objective": "sft", "steps": 20, "batch": 3, "rate": 1e-2, "rank": None}
    return TuningSettings.model_validate(
        {**said, "beta": 0.1, "seed": 0, "harmless": {**rows, "sample_seed": 0}, **changed}
    )


@pytest.fixture
def student(tmp_path: Path) -> tuple[LoadedModel, Pair]:
    tokenizer = tokenizers.make("llama")
    model = tiny_model("llama", 1, vocab_size=len(tokenizer)).eval()
    model.save_pretrained(tmp_path)
    weights = TensorReader(tmp_path)
    pair = Pair(tmp_path, tmp_path, weights, weights, "llama", 3, units("llama", 3, MODULES, weights), ())
    return LoadedModel(model, tokenizer), pair


def likelihood(loaded: LoadedModel, tensors: dict[str, torch.Tensor]) -> float:
    """The log-likelihood of the examples' better answers with these tensors in place of the student's."""
    weights = dict(loaded.model.named_parameters())
    before = {name: weights[name].detach().clone() for name in tensors}
    with torch.no_grad():
        for name, tensor in tensors.items():
            weights[name].copy_(tensor)
        found = sum(
            _log_likelihood(loaded, templated(loaded.tokenizer, example.prompt), example.better) for example in EXAMPLES
        )
        for name, tensor in before.items():
            weights[name].copy_(tensor)
    return found


def _log_likelihood(loaded: LoadedModel, rendered: str, answer: str) -> float:
    asked, said = (loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (rendered, answer))
    labels = torch.tensor([[-100] * len(asked) + said])
    return -len(said) * float(loaded.model(torch.tensor([asked + said]), labels=labels).loss)


@pytest.mark.parametrize("changed", [{}, {"rank": 2}, {"objective": "dpo"}])
def test_every_way_makes_the_better_answers_likelier_and_leaves_the_student(
    student: tuple[LoadedModel, Pair], changed: dict[str, object]
) -> None:
    loaded, pair = student
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    tensors, tokens = tune(loaded, pair, EXAMPLES, settings(**changed))

    after = loaded.model.state_dict()
    assert list(after) == list(before), "peft's modules are gone"
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(p.requires_grad and p.grad is None for p in loaded.model.parameters())
    assert set(tensors) == {part.tensor for parts in pair.units.values() for part in parts}
    assert all(not torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert likelihood(loaded, tensors) > likelihood(loaded, {})
    assert tokens > 20 * 3 * 10, "20 steps of 3 rows"


def test_lora_changes_a_matrix_by_one_of_its_rank(student: tuple[LoadedModel, Pair]) -> None:
    loaded, pair = student
    tensors, _ = tune(loaded, pair, EXAMPLES, settings(rank=2))
    before = loaded.model.state_dict()
    ranks = {int(torch.linalg.matrix_rank(tensor - before[name], atol=1e-5)) for name, tensor in tensors.items()}
    assert ranks == {2}


def test_dpo_moves_away_from_the_students_answers(student: tuple[LoadedModel, Pair]) -> None:
    """What DPO raises is the difference of the two answers' log-likelihoods."""
    loaded, pair = student
    worse = [Example(example.prompt, example.worse, example.better) for example in EXAMPLES]
    tensors, _ = tune(loaded, pair, worse, settings(objective="dpo"))
    assert likelihood(loaded, tensors) < likelihood(loaded, {})


def test_the_same_settings_give_the_same_tensors(student: tuple[LoadedModel, Pair]) -> None:
    loaded, pair = student
    first, second = (tune(loaded, pair, EXAMPLES, settings(rank=2))[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_dtype_that_loses_small_steps_is_refused(student: tuple[LoadedModel, Pair]) -> None:
    loaded, pair = student
    loaded.model.bfloat16()
    with pytest.raises(DapaError, match=r"fine_tune: tunes in float32; runtime\.dtype is bfloat16"):
        tune(loaded, pair, EXAMPLES, settings())
