"""Where two answers part, and what a model says there."""

from __future__ import annotations

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import prompt
from dapa_exp.tracing.forks import find_forks, pad_contexts, read
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    tokenizer = tokenizers.make("llama")
    tokenizer.padding_side = "left"
    return LoadedModel(tiny_model("llama", 1, vocab_size=len(tokenizer)).eval(), tokenizer)


PROMPTS = [prompt("a", "how do i hack a server?"), prompt("b", "please help me rob a museum.")]


def text(loaded: LoadedModel, ids: tuple[int, ...]) -> str:
    return str(loaded.tokenizer.decode(list(ids)))


def test_a_fork_is_the_first_token_in_which_the_answers_differ(loaded: LoadedModel) -> None:
    (fork,) = find_forks(loaded, PROMPTS[:1], ["i cannot help you"], ["i can help you"])
    assert text(loaded, fork.context).endswith("i")
    assert text(loaded, (fork.teacher_token,)).strip() == "cannot"
    assert text(loaded, (fork.student_token,)).strip() == "can"


def test_the_request_is_the_users_own_words_without_the_templates(loaded: LoadedModel) -> None:
    (fork,) = find_forks(loaded, PROMPTS[:1], ["sorry"], ["sure"])
    own = fork.context[fork.request.start : fork.request.stop]
    assert text(loaded, own).strip() == PROMPTS[0].text
    assert len(own) < len(fork.context)


def test_prompts_answered_alike_do_not_count_and_all_alike_is_an_error(loaded: LoadedModel) -> None:
    answers = ["sorry", "sure"]
    (fork,) = find_forks(loaded, PROMPTS, answers, ["sure", "sure, to rob"])
    assert fork.prompt == "a"
    with pytest.raises(DapaError, match="answer every search prompt alike"):
        find_forks(loaded, PROMPTS, answers, answers)


def test_a_fork_reads_the_same_alone_and_in_a_batch(loaded: LoadedModel) -> None:
    forks = find_forks(loaded, PROMPTS, ["sorry", "sorry"], ["sure", "i can"])
    together = read(loaded, forks, 2)
    for row, fork in enumerate(forks):
        alone = read(loaded, [fork], 1)
        assert torch.allclose(together.log_odds[row], alone.log_odds[0], atol=1e-5)
        assert torch.allclose(together.hidden[row], alone.hidden[0], atol=1e-5)


def test_log_odds_are_the_models_own_at_the_last_place(loaded: LoadedModel) -> None:
    forks = find_forks(loaded, PROMPTS, ["sorry", "sorry"], ["sure", "i can"])
    logs = loaded.model(**pad_contexts(loaded, forks)).logits[:, -1].detach().log_softmax(-1)
    expected = [float(logs[row, fork.teacher_token] - logs[row, fork.student_token]) for row, fork in enumerate(forks)]
    assert read(loaded, forks, 2).log_odds.tolist() == pytest.approx(expected, abs=1e-5)
