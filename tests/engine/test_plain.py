"""The reference engine says what transformers says for each prompt alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine, answer_tokens, encode
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import Message, Prompt, prompt
from tests.engine.siblings import room_for
from tests.tiny import CONFIGS, tiny_loaded

TEXTS = [
    "how do i bake a cake?",
    "hi",
    "i want to restore a bicycle. what should i do?",
    "write a guide to wrap a teapot, slowly, with a friend, by night and step by step.",
    "what is 3 plus 4?",
]
PROMPTS = [prompt(str(i), text) for i, text in enumerate(TEXTS)]


def alone(loaded: LoadedModel, text: str, tokens: int) -> torch.Tensor:
    """What transformers generates for one prompt, unpadded."""
    turn = [{"role": "user", "content": text}]
    filled = loaded.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = loaded.tokenizer(filled, add_special_tokens=False, return_tensors="pt")["input_ids"]
    output = loaded.model.generate(ids, do_sample=False, max_new_tokens=tokens, pad_token_id=0)  # type: ignore[operator]
    return output[0, ids.shape[1] :]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_padded_batch_says_what_each_row_says_alone(family: str) -> None:
    loaded = tiny_loaded(family, 5)
    batch = PlainEngine(loaded, len(PROMPTS)).generate_batch(PROMPTS, 12)
    for text, answer in zip(TEXTS, batch, strict=True):
        expected = alone(loaded, text, 12)
        assert answer.text == str(loaded.tokenizer.decode(expected, skip_special_tokens=True)).strip()
        assert answer.tokens == len(expected)


def test_padding_is_on_the_left_and_the_template_around_each_prompt() -> None:
    loaded = tiny_loaded("llama", 5)
    inputs = encode(loaded, PROMPTS[:2])
    longer, shorter = inputs["attention_mask"].tolist()
    assert longer == [1] * len(longer)
    assert shorter == sorted(shorter)
    assert shorter[0] == 0
    assert str(loaded.tokenizer.decode(inputs["input_ids"][0])).startswith("<s>[INST]")


def test_an_end_token_is_no_part_of_the_text_though_the_tokenizer_does_not_call_it_special() -> None:
    loaded = tiny_loaded("llama", 5)
    (whole,) = PlainEngine(loaded, 1).generate_batch(PROMPTS[:1], 12)
    mark = next(token for token in whole.ids[3:] if token not in whole.ids[:3])
    (answer,) = PlainEngine(replace(loaded, ends=frozenset({mark})), 1).generate_batch(PROMPTS[:1], 12)
    assert answer.ids == whole.ids[: whole.ids.index(mark) + 1]
    assert answer.text == str(loaded.tokenizer.decode(list(answer.ids[:-1]))).strip()


def test_the_end_token_ends_an_answer_and_is_counted() -> None:
    loaded = tiny_loaded("llama", 5)
    said = alone(loaded, TEXTS[0], 12).tolist()
    end = said[4]
    loaded.model.generation_config.eos_token_id = end
    batch = PlainEngine(loaded, 2).generate_batch(PROMPTS[:2], 12)
    assert batch[0].tokens == said.index(end) + 1
    assert PlainEngine(loaded, 1).generate_batch(PROMPTS[:1], 2)[0].tokens == min(2, said.index(end) + 1)


def test_a_checkpoints_sampling_settings_change_nothing() -> None:
    loaded = tiny_loaded("mistral", 5)
    before = PlainEngine(loaded, 5).generate_batch(PROMPTS, 12)
    own = loaded.model.generation_config
    assert own is not None
    own.update(do_sample=True, temperature=3.0, top_k=5, repetition_penalty=5.0)
    assert PlainEngine(loaded, 5).generate_batch(PROMPTS, 12) == before


def test_too_little_memory_is_one_message_that_names_the_way_out() -> None:
    loaded = tiny_loaded("llama", 5)
    said = r"cpu: .* 5 prompts at a time; .* runtime\.batch_size"
    with room_for(loaded.model, 2), pytest.raises(DapaError, match=said):
        PlainEngine(loaded, 5).generate_batch(PROMPTS, 2)


@pytest.mark.parametrize(("ending", "opening"), [("<think>\n", "<think>\n"), ("<think>\n\n</think>\n\n", ""), ("", "")])
def test_an_answer_whose_thoughts_the_template_opens_begins_within_them(ending: str, opening: str) -> None:
    loaded = tiny_loaded("llama", 5)
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.chat_template += ending
    thinking = LoadedModel(loaded.model, tokenizer)
    answer = PlainEngine(thinking, 1).generate_batch(PROMPTS[:1], 6)[0]
    generated = alone(thinking, TEXTS[0], 6).tolist()
    assert answer.text == opening + str(tokenizer.decode(generated, skip_special_tokens=True)).strip()
    assert answer_tokens(thinking, f"{opening}hi") == tokenizer("hi", add_special_tokens=False)["input_ids"]
    assert (PhraseJudge().final(TEXTS[0], f"{opening}Sure, here is how") is None) == bool(opening)


@pytest.mark.parametrize("engine", [PlainEngine, partial(FastEngine, reuse_bytes=0)])
def test_a_prompt_that_is_longer_than_the_model_can_read_is_named(engine: Any) -> None:
    loaded = tiny_loaded("llama", 5)
    long = prompt("long", "step by step " * 1000)
    with pytest.raises(DapaError, match=r"prompt long: \d{4,} tokens, and the model reads 2048"):
        engine(loaded, 2).generate_batch([PROMPTS[0], long], 2)


def test_marks_of_thoughts_are_kept_where_they_are_special_tokens() -> None:
    loaded = tiny_loaded("llama", 5)
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[/THINK]"]})
    engine = PlainEngine(LoadedModel(loaded.model, tokenizer), 1)
    said = [*tokenizer("a cake", add_special_tokens=False)["input_ids"], len(tokenizer) - 1, tokenizer.eos_token_id]
    assert engine._text(said) == "a cake[/THINK]"


def test_batches_are_fixed_by_place() -> None:
    engine = PlainEngine(tiny_loaded("llama", 5), 2)
    assert [list(batch) for batch in engine.batches(5)] == [[0, 1], [2, 3], [4]]
    assert engine.batches(0) == []


def test_turns_that_a_chat_template_does_not_take_are_named() -> None:
    loaded = tiny_loaded("llama", 5)
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    loaded.tokenizer.chat_template = refuse + str(loaded.tokenizer.chat_template)
    turns = (Message("system", "be kind"), Message("user", "hi"))
    with pytest.raises(DapaError, match="prompt mine-7: the chat template does not take its turns: System role not"):
        PlainEngine(loaded, 2).generate_batch([PROMPTS[0], Prompt("mine-7", turns)], 4)
