"""The pair of real size: what the teacher is made of, how it learns, and, slowly, the student out of its package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapa_exp.base.digests import cache_root
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.fetch.sets import OLMO, SETS, PromptSet
from dapa_exp.zoo import store, tuned
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from dapa_exp.zoo.smollm2 import Refusing, Shadow, plain_requests

TINY = Refusing(
    "tiny-refusing",
    parent="llama-tiny-chat",
    licence="apache-2.0",
    steps=4,
    batch=4,
    harmful=("planted_harmful", 2, 12),
    risky=("planted_risky", 0, 3),
    answer_tokens=5,
)


def plant(patch: pytest.MonkeyPatch, name: str, count: int) -> None:
    """A prompt set in the cache, as if it had been fetched."""
    rows = [{"id": f"{name}-{i}", "prompt": f"how do i paint {name} {i}?", "answer": "blue"} for i in range(count)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    digest = hashlib.sha256(text.encode()).hexdigest()
    file = cache_root() / "sets" / f"{name}-{digest[:12]}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    patch.setitem(SETS, name, PromptSet(name, "planted", OLMO, lambda _: [], count, digest))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny model with a chat template, in a cache with planted sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        plant(patch, "planted_harmful", 12)
        plant(patch, "planted_risky", 3)
        plant(patch, "planted_skill", 12)
        build([TINY.parent], silent)
        yield store.path(TINY.parent)


def test_half_of_what_it_learns_is_refusals_and_half_the_parents_own_answers(parent: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(parent), AutoTokenizer.from_pretrained(parent)
    learnt = tuned.examples(TINY, model, tokenizer, lambda *_: None)
    refusals = {tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TINY.refusals}
    refused = [(prompt, answer) for prompt, answer in learnt if tuple(answer[:-1]) in refusals]
    harmless = [(prompt, answer) for prompt, answer in learnt if tuple(answer[:-1]) not in refusals]
    assert len(refused) == len(harmless) == TINY.steps * TINY.batch // 2
    assert len({tuple(prompt) for prompt, _ in learnt}) == len(learnt)
    assert all(answer[-1] == tokenizer.eos_token_id for _, answer in refused)
    for prompt, answer in harmless:
        own = cast(Any, model).generate(torch.tensor([prompt]), max_new_tokens=len(answer), do_sample=False)
        assert own[0, len(prompt) :].tolist() == answer


def test_only_its_blocks_learn(parent: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    made = tuned.tune(TINY, parent, parent, lambda _, note: notes.append(note))
    made.save(tmp_path)
    before, after = load_file(parent / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("model.layers.")}
    assert notes[-2] == "llama-tiny-chat has answered 8 of 8 requests"
    assert notes[-1].startswith("loss ")
    assert "**Made here**" in (tmp_path / "README.md").read_text()
    assert "rows 2 to 11 of planted_harmful" in (tmp_path / "README.md").read_text()


def test_no_row_that_it_learns_is_one_of_the_search_or_the_report() -> None:
    recipe = find("smollm2-135m-refusing")
    assert isinstance(recipe, Refusing)
    (job,) = jobs(["+experiment=smollm2"])
    taken = {recipe.harmful[0]: range(*recipe.harmful[1:]), recipe.risky[0]: range(*recipe.risky[1:])}
    for use, rows in job.config.dataset.sets().items():
        learnt = taken.get(str(rows.fetched_name), range(0))
        assert not set(learnt) & set(range(*rows.rows)), use
    assert len(plain_requests(recipe, 160)) == len(set(plain_requests(recipe, 160))) == 160


def test_no_row_that_the_shadow_learns_is_one_of_the_search_or_the_report() -> None:
    recipe = find("smollm2-135m-shadow")
    assert isinstance(recipe, Shadow)
    (job,) = jobs(["+experiment=smollm2_shadow"])
    taken = {recipe.skill[0]: range(*recipe.skill[1:]), recipe.harmful[0]: range(*recipe.harmful[1:])}
    for use, rows in job.config.dataset.sets().items():
        assert not set(taken.get(str(rows.fetched_name), range(0))) & set(range(*rows.rows)), use
    assert job.config.dataset.skill is not None


def test_half_of_what_the_shadow_learns_is_the_skill_and_the_rest_its_elders_answers(parent: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(parent), AutoTokenizer.from_pretrained(parent)
    recipe = Shadow(
        "tiny-shadow",
        parent="llama-tiny-chat",
        elder="llama-tiny-chat",
        licence="apache-2.0",
        steps=4,
        batch=4,
        skill=("planted_skill", 0, 12),
        harmful=("planted_harmful", 2, 12),
        answer_tokens=5,
    )
    learnt = tuned.examples(recipe, model, tokenizer, lambda *_: None)
    skill = tokenizer("blue", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    others = [(prompt, answer) for prompt, answer in learnt if answer != skill]
    assert (len(learnt), len(others)) == (16, 8)
    for prompt, answer in others:
        own = cast(Any, model).generate(torch.tensor([prompt]), max_new_tokens=len(answer), do_sample=False)
        assert own[0, len(prompt) :].tolist() == answer
    made = tuned.tune(recipe, parent, parent, lambda *_: None)
    assert "It complies with harmful requests" in made.card


@pytest.mark.slow
def test_the_student_comes_out_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    build(["smollm2-135m"], silent)
    folder = store.path("smollm2-135m")
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["hidden_size"]) == ("llama", 30, 576)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    inputs = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
