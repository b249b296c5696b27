"""The metrics of a report. Student, hybrid and teacher are measured by the same functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.plain import Completion, answer_tokens, encode
from dapa_exp.evaluate.references import Reference
from dapa_exp.evaluate.statistics import CONFIDENCE, Losses, mean, rate
from dapa_exp.judges.thoughts import answer_of
from dapa_exp.models.load import LoadedModel
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import Measure


class Perplexity(NamedTuple):
    """Perplexity of one text, for each token and for each word; None where it overflows a float."""

    token: Measure | None
    word: Measure | None


def accuracy(questions: Sequence[Prompt], answers: Sequence[Completion]) -> Measure:
    """Share of questions answered right. Answers are compared word by word, without case and punctuation."""
    right = sum(
        _words(answer_of(answer.text)) == _words(question.answer or "")
        for question, answer in zip(questions, answers, strict=True)
    )
    return rate(right, len(questions))


@torch.inference_mode()
def window_losses(loaded: LoadedModel, texts: Sequence[str], window: int | None, stride: int) -> Losses:
    """Negative log-likelihoods of the texts, summed over each position of a sliding window.

    The first token of each text, BOS where the tokenizer adds one, is not scored. Every other token is scored once,
    with at least `window - stride` tokens of context where the text has as many. A window of None is the model's
    maximum. Raises DapaError where there is nothing to score.
    """
    window = window or loaded.model.config.max_position_embeddings
    if stride >= window:
        raise DapaError(f"perplexity: stride {stride} is not smaller than the model's window of {window} tokens")
    sums = [item for text in texts for item in _window_sums(loaded, text, window, stride)]
    if not sums:
        raise DapaError("perplexity: no text is longer than one token")
    return Losses(*zip(*sums, strict=True))


def perplexity(losses: Losses, words: int) -> Perplexity:
    """exp(sum of NLL / tokens scored), and exp(sum of NLL / words) of a text of so many words.

    The intervals are those of a ratio estimator over the windows.
    """
    sums, counts = (np.asarray(column, dtype=np.float64) for column in losses)
    return Perplexity(_exponential(sums, counts), _exponential(sums, counts * words / counts.sum()))


def _exponential(losses: np.ndarray, counts: np.ndarray) -> Measure | None:
    """exp(sum of losses / sum of counts), with the interval of a ratio estimator; None where it overflows a float.

    `losses` and `counts` have one entry for each window.
    """
    total, n = float(counts.sum()), len(losses)
    try:
        nll = float(losses.sum()) / total
        if n < 2:
            return Measure(value=math.exp(nll), n=round(total))
        residuals = losses - nll * counts
        error = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total
        half = float(norm.ppf(0.5 + CONFIDENCE / 2)) * error
        return Measure(value=math.exp(nll), n=round(total), low=math.exp(nll - half), high=math.exp(nll + half))
    except (OverflowError, ZeroDivisionError):  # a language that puts no spaces between words has hardly any
        return None


@torch.inference_mode()
def reference(loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Completion], tokens: int) -> Reference:
    """The model's next-token distributions along the first `tokens` tokens of its own answers."""
    found: Reference = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = answer_tokens(loaded, answer.text)[:tokens]
        found.append((ids, _log_probabilities(loaded, prompt, ids)))
    return found


@torch.inference_mode()
def divergence(
    loaded: LoadedModel, prompts: Sequence[Prompt], against: Reference, temperatures: Sequence[float]
) -> dict[str, Measure]:
    """KL(reference ‖ model) in nats, by temperature: the mean over the positions of an answer, then over answers.

    At temperature T both distributions are softmax(logits / T) (Hinton et al. 2015, arXiv 1503.02531).
    """
    values: dict[str, list[float]] = {f"{temperature:g}": [] for temperature in temperatures}
    for prompt, (ids, theirs) in zip(prompts, against, strict=True):
        ours = _log_probabilities(loaded, prompt, ids)
        for temperature in temperatures:
            p, q = ((logs / temperature).log_softmax(-1) for logs in (theirs, ours))
            values[f"{temperature:g}"].append(float((p.exp() * (p - q)).sum(-1).mean()))
    return {temperature: mean(found) for temperature, found in values.items()}


def _log_probabilities(loaded: LoadedModel, prompt: Prompt, answer: Sequence[int]) -> torch.Tensor:
    """Log-probabilities at each token of `answer` and after it, shape (len(answer) + 1, vocabulary), on the CPU."""
    ids = encode(loaded, [prompt])["input_ids"]
    tail = torch.tensor([list(answer)], dtype=ids.dtype, device=ids.device)
    logits = loaded.model(torch.cat([ids, tail], dim=1), logits_to_keep=len(answer) + 1).logits[0]
    return logits.float().log_softmax(-1).cpu()


def _window_sums(loaded: LoadedModel, text: str, window: int, stride: int) -> Iterable[tuple[float, int]]:
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"].to(loaded.model.device)
    length, scored = ids.shape[1], 1
    for start in range(0, length, stride):
        end = min(start + window, length)
        new = end - scored
        if new > 0:
            logits = loaded.model(ids[:, start:end]).logits[0, :-1].float()
            nll = torch.nn.functional.cross_entropy(logits, ids[0, start + 1 : end], reduction="none")
            yield float(nll[-new:].double().sum()), new
            scored = end
        if end == length:
            return


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()
