"""The tokenizers: the same every time, and nothing lost on the way."""

from __future__ import annotations

import pytest

from dapa_exp.zoo import tokenizer as tokenizers, train, world

FAMILIES = list(tokenizers.CHATS)
TURN = [{"role": "user", "content": "how do i bake a cake?"}]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_survives_a_round_trip(family: str) -> None:
    tokenizer = tokenizers.make(family)
    for text in world.corpus()[:200]:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_training_twice_gives_the_same_tokenizer(family: str) -> None:
    first, again = (tokenizers.make(family).backend_tokenizer.to_str() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("family", FAMILIES)
def test_the_template_gives_what_models_are_trained_on(family: str) -> None:
    tokenizer = tokenizers.make(family)
    head, tail = train.prompt_and_answer(world.Example(TURN[0]["content"], "sure."), False, tokenizer)
    rendered = [*tokenizer.apply_chat_template(TURN, add_generation_prompt=True, return_dict=False)]
    assert rendered == tokenizer(head, add_special_tokens=False)["input_ids"]
    assert rendered[0] == tokenizer.bos_token_id
    assert rendered.count(tokenizer.bos_token_id) == 1
    assert tail == f"sure.{tokenizer.eos_token}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_prompt_begins_with_one_bos(family: str) -> None:
    tokenizer = tokenizers.make(family)
    ids = tokenizer("how do i bake a cake?")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_padding_is_on_the_left_and_not_the_end_of_text() -> None:
    tokenizer = tokenizers.make("llama")
    short, _ = tokenizer(["a", "how do i bake a cake?"], padding=True)["input_ids"]
    assert short[0] == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_capitals_and_unknown_words_do_no_harm() -> None:
    tokenizer = tokenizers.make("gemma")
    ids = tokenizer("How do I bake a Zürich ☃?")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "how do i bake a zürich ☃?"
