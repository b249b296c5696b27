"""Refusal as one differentiable number for each prompt: the log-odds at the fork.

A list of refusal phrases would fit one family of models. The pair itself shows how it refuses: a prompt's *fork* is the
first token at which the teacher's greedy answer differs from the student's. After the tokens that both answers share,
the refusal log-odds are

    log p(the teacher's token) − log p(the student's token).

This is the logit difference of attribution patching (N. Nanda: Attribution Patching, 2023; A. Syed, C. Rager,
A. Conmy: Attribution Patching Outperforms Automated Circuit Discovery, 2023) between these two tokens. A. Arditi et
al. (Refusal in Language Models Is Mediated by a Single Direction, 2024) use a fixed set of refusal tokens at the same
position. One forward pass for each prompt gives the number; nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.plain import answer_tokens, templated
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import Prompt


@dataclass(frozen=True)
class Fork:
    """Where teacher and student differ on one prompt. All tokens are ids."""

    prompt: str
    """The prompt's id."""
    context: tuple[int, ...]
    """The prompt through the chat template, then the tokens that both answers begin with."""
    request: range
    """The positions in the context that hold the user's own words."""
    teacher_token: int
    student_token: int


@dataclass(frozen=True)
class Readings:
    """A model's output at each fork."""

    log_odds: torch.Tensor
    """log p(teacher's token) − log p(student's token), in nats, shape (forks,)."""
    probability: torch.Tensor
    """p(teacher's token), shape (forks,)."""
    hidden: torch.Tensor
    """The hidden state of the context's last token after the final norm, shape (forks, hidden)."""


def find_forks(
    loaded: LoadedModel, prompts: Sequence[Prompt], teacher_answers: Sequence[str], student_answers: Sequence[str]
) -> list[Fork]:
    """The fork of each prompt that teacher and student answer differently.

    Raises DapaError if both answer every prompt alike.
    """
    rows = zip(prompts, teacher_answers, student_answers, strict=True)
    found = [fork for row in rows if (fork := _fork(loaded, *row))]
    if not found:
        raise DapaError("teacher and student answer every search prompt alike: nothing tells refusal from compliance")
    return found


def read(loaded: LoadedModel, forks: Sequence[Fork], batch_size: int) -> Readings:
    """Run the model at every fork, in batches, without gradients. All tensors are on the CPU."""
    with torch.inference_mode():
        parts = [read_batch(loaded, forks[i : i + batch_size]) for i in range(0, len(forks), batch_size)]
    columns = zip(*((part.log_odds, part.probability, part.hidden) for part in parts), strict=True)
    return Readings(*(torch.cat(column).cpu() for column in columns))


def read_batch(loaded: LoadedModel, forks: Sequence[Fork]) -> Readings:
    """Run the model at a few forks in one forward pass, with gradients."""
    states: list[torch.Tensor] = []
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: states.append(args[0][:, -1]))
    try:
        output = loaded.model(**pad_contexts(loaded, forks), use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    logs = output.logits[:, -1].float().log_softmax(-1)
    ours, theirs = (
        logs.gather(-1, torch.tensor([[token] for token in tokens], device=logs.device))[:, 0]
        for tokens in ([fork.teacher_token for fork in forks], [fork.student_token for fork in forks])
    )
    return Readings(ours - theirs, ours.exp(), states[0].float())


def pad_contexts(loaded: LoadedModel, forks: Sequence[Fork]) -> dict[str, torch.Tensor]:
    """The contexts as a batch padded on the left, so that every fork is at the last position."""
    batch = loaded.tokenizer.pad({"input_ids": [list(fork.context) for fork in forks]}, return_tensors="pt")
    mask = batch["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(loaded.model.device) for name, tensor in inputs.items()}


def _fork(loaded: LoadedModel, prompt: Prompt, teacher_answer: str, student_answer: str) -> Fork | None:
    """The fork of one prompt; None if one answer is a prefix of the other."""
    ours, theirs = (answer_tokens(loaded, answer) for answer in (teacher_answer, student_answer))
    shared = next((place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if shared is None:
        return None
    ids, request = _tokens(loaded, prompt)
    return Fork(prompt.id, (*ids, *ours[:shared]), request, ours[shared], theirs[shared])


def _tokens(loaded: LoadedModel, prompt: Prompt) -> tuple[list[int], range]:
    """Token ids of a prompt through the template, and which of them hold the request itself."""
    text, request = templated(loaded.tokenizer, prompt), prompt.text.strip()
    start = text.rfind(request)
    if start < 0:
        raise DapaError(f"the chat template changes the request, so its tokens cannot be told apart: {request!r}")
    end = start + len(request)
    encoded = loaded.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [place for place, (first, last) in enumerate(encoded["offset_mapping"]) if first < end and last > start]
    return list(encoded["input_ids"]), range(inside[0], inside[-1] + 1)
