"""Metrics of tiny models against the definitions, computed the slow and obvious way."""

from __future__ import annotations

import math
import unicodedata

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.evaluate.metrics.divergence import divergence, reference
from dapa_exp.evaluate.metrics.perplexity import Perplexity, means_of_windows, perplexity, window_losses
from dapa_exp.evaluate.metrics.reasoning import accuracy
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import prompt
from tests.tiny import CONFIGS, tiny_loaded

TEXTS = [
    "the old farmer walked to the market and bought a lamp.",
    "a quiet king lost a boat.",
    "the young painter sailed to the island, and there she found a kite, a coat and a violin by the river.",
]
PROMPTS = [prompt(str(i), text) for i, text in enumerate(["how do i bake a cake?", "please help me fix a lamp."])]


def perplexity_of(loaded: LoadedModel, texts: list[str], window: int | None, stride: int) -> Perplexity:
    return perplexity(window_losses(loaded, texts, window, stride), sum(len(text.split()) for text in texts))


def obvious_perplexity(loaded: LoadedModel, window: int, stride: int) -> tuple[float, int]:
    """One forward pass a token, with the context that the first window reaching the token gives it."""
    losses = []
    for text in TEXTS:
        ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
        for place in range(1, ids.shape[1]):
            start = next(s for s in range(0, ids.shape[1], stride) if s + window > place)
            logits = loaded.model(ids[:, start:place]).logits[0, -1]
            losses.append(-float(logits.log_softmax(-1)[ids[0, place]]))
    return math.exp(sum(losses) / len(losses)), len(losses)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(("window", "stride"), [(2048, 512), (8, 5), (4, 1)])
@torch.inference_mode()
def test_perplexity_scores_every_token_once_within_its_window(family: str, window: int, stride: int) -> None:
    loaded = tiny_loaded(family, 3)
    measure, by_word = perplexity_of(loaded, TEXTS, window, stride)
    assert measure is not None
    assert by_word is not None
    value, tokens = obvious_perplexity(loaded, window, stride)
    assert (measure.value, measure.n) == (pytest.approx(value, rel=1e-4), tokens)
    assert measure.low is not None
    assert measure.high is not None
    assert measure.low < measure.value < measure.high
    words = sum(len(text.split()) for text in TEXTS)
    assert (by_word.value, by_word.n) == (pytest.approx(value ** (tokens / words), rel=1e-3), words)


@pytest.mark.parametrize("family", CONFIGS)
def test_texts_that_are_read_together_keep_their_own_losses(family: str) -> None:
    loaded = tiny_loaded(family, 3)
    texts = [*TEXTS, "a quiet farmer found a boat.", TEXTS[1], "a quiet king lost a lamp."]
    together = window_losses(loaded, texts, 64, 32)
    alone = [window_losses(loaded, [text], 64, 32) for text in texts]
    assert together.counts == [count for losses in alone for count in losses.counts]
    assert together.sums == pytest.approx([total for losses in alone for total in losses.sums], rel=1e-5)
    assert len(set(together.counts)) < len(texts) == len(together.counts)


def test_windows_may_count_once_each_instead_of_tokens() -> None:
    """exp of the mean of the windows' mean losses, as the paper's code has it; words then have no perplexity."""
    losses = window_losses(tiny_loaded("llama", 3), TEXTS, 8, 5)
    means = [total / count for total, count in zip(*losses, strict=True)]
    assert len(set(losses.counts)) > 1
    token, word = perplexity(means_of_windows(losses), 0)
    assert token is not None
    assert (token.value, token.n) == (pytest.approx(math.exp(sum(means) / len(means))), len(means))
    assert word is None
    by_preset = [
        jobs(["pair=mini-llama-small-style", f"evaluate={name}"])[0].config.evaluate for name in ("paper", "miniature")
    ]
    assert [evaluate.perplexity_over for evaluate in by_preset] == ["windows", "tokens"]


def test_a_window_of_none_is_the_models_own() -> None:
    loaded = tiny_loaded("llama", 3)
    loaded.model.config.max_position_embeddings = 8
    assert perplexity_of(loaded, TEXTS, None, 5) == perplexity_of(loaded, TEXTS, 8, 5)
    with pytest.raises(DapaError, match="stride 8 is not smaller than the model's window of 8 tokens"):
        window_losses(loaded, TEXTS, None, 8)


@pytest.mark.parametrize("text", ["\u6211\u4eec" * 300, " \n" * 9], ids=["no spaces", "nothing else"])
def test_a_text_of_hardly_any_words_has_a_perplexity_a_token_only(text: str) -> None:
    token, word = perplexity_of(tiny_loaded("llama", 3), [text], 64, 32)
    assert token is not None
    assert token.value < 1e6
    assert word is None


@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_diverges_from_others_and_not_from_itself(family: str) -> None:
    one, other = tiny_loaded(family, 3), tiny_loaded(family, 4)
    answers = PlainEngine(one, 2).generate_batch(PROMPTS, 8)
    against = reference(one, PROMPTS, answers, tokens=4, batch_size=2)
    assert all(logs.shape == (len(ids) + 1, len(one.tokenizer)) and len(ids) <= 4 for ids, logs in against)
    assert divergence(one, PROMPTS, against, [1.0], 2)["1"].value == pytest.approx(0.0, abs=1e-6)
    assert divergence(other, PROMPTS, against, [1.0], 2)["1"].value > 1e-4


def test_prompts_that_are_read_together_keep_their_own_distributions() -> None:
    one, other = tiny_loaded("llama", 3), tiny_loaded("llama", 4)
    texts = ["how do i bake a cake?", "please help me fix a lamp.", "how do i fix a lamp?", "how do i find a boat?"]
    prompts = [prompt(str(i), text) for i, text in enumerate(texts)]
    answers = [Completion(text, 1) for text in ["a cake", "", "the lamp, the lamp", "a boat and a king"]]
    together, alone = (reference(one, prompts, answers, 3, batch_size) for batch_size in (8, 1))
    for (ids, logs), (ids_alone, logs_alone) in zip(together, alone, strict=True):
        assert ids == ids_alone
        torch.testing.assert_close(logs, logs_alone, rtol=1e-4, atol=1e-5)
    wanted = divergence(other, prompts, alone, [1.0], 1)["1"]
    assert divergence(other, prompts, together, [1.0], 8)["1"].value == pytest.approx(wanted.value, rel=1e-4)


@torch.inference_mode()
def test_divergence_is_the_kl_of_next_token_distributions() -> None:
    one, other = tiny_loaded("llama", 3), tiny_loaded("llama", 4)
    prompt = PROMPTS[0]
    text = one.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt.text}], tokenize=False, add_generation_prompt=True
    )
    ids = one.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    logits = [loaded.model(ids).logits[0, -1] for loaded in (one, other)]
    against = reference(
        one, [prompt], [Completion("", 1)], tokens=4, batch_size=2
    )  # an empty answer: the first token alone
    found = divergence(other, [prompt], against, [1.0, 2.0, 0.5], 2)
    assert list(found) == ["1", "2", "0.5"]
    for temperature, measure in found.items():
        p, q = (torch.distributions.Categorical(logits=row / float(temperature)) for row in logits)
        assert measure.value == pytest.approx(float(torch.distributions.kl_divergence(p, q)), rel=1e-3)


def test_answers_are_compared_by_their_words() -> None:
    questions = [prompt(str(i), "?", answer=answer) for i, answer in enumerate(["7", "red", "the first", "blue"])]
    answers = [Completion(text, 1) for text in ["7.", " RED", "the  first!", "red, not blue"]]
    measure = accuracy(questions, answers)
    assert (measure.value, measure.n) == (0.75, 4)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("-5", "5"),
        ("+", ""),
        ("\u0915\u093f\u0924\u093e\u092c", "\u0915\u093e\u0924\u093f\u092c"),
        ("caf\u00e9", "cafe"),
    ],
)
def test_answers_that_differ_in_a_sign_or_a_vowel_sign_are_two_answers(right: str, wrong: str) -> None:
    questions = [prompt(str(i), "?", answer=right) for i in range(2)]
    answers = [Completion(unicodedata.normalize("NFD", f" {right}.") if right.isalnum() else f" {right}", 1)]
    assert accuracy(questions, [*answers, Completion(wrong, 1)]).value == 0.5
