"""Perplexity of held-out text, for each token and for each word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import ModelSizes
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.equal_lengths import equal_length_batches
from dapa_exp.evaluate.metric import METRICS, Measure, Metric, ModelInEngine

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dapa_exp.evaluate.statistics import Losses
    from dapa_exp.models.load import LoadedModel


class Perplexity(NamedTuple):
    """Perplexity of one text, for each token and for each word; None where it overflows a float."""

    token: Measure | None
    word: Measure | None


class PerplexityMetric(Metric):
    """Perplexity for each token and word. The losses of each window are kept, to compare models window by window."""

    name = "perplexity"
    titles: ClassVar[dict[str, str]] = {"perplexity": "perplexity", "word_perplexity": "word perplexity"}
    place = 20
    sets = ("text",)

    def measure(self, model: ModelInEngine) -> dict[str, Measure]:
        by_token = model.config.evaluate.perplexity_over == "tokens"
        words = sum(len(text.split()) for text in _texts(model)) if by_token else 0
        found = perplexity(self.losses(model), words)
        return {kind: measure for kind, measure in found._asdict().items() if measure is not None}

    def losses(self, model: ModelInEngine) -> Losses:
        """The loss of each window, read from the run's folder. If it is missing, it is computed and written first."""
        from pydantic import TypeAdapter

        from dapa_exp.evaluate.statistics import Losses

        wanted = model.config.evaluate

        def compute() -> Losses:
            return window_losses(model.loaded, _texts(model), wanted.perplexity_window, wanted.perplexity_stride)

        file = model.run.files.metric(model.name, "windows")
        kept = model.run.load_or_compute(file, TypeAdapter(Losses), compute, model.result_key("windows"))
        return kept if wanted.perplexity_over == "tokens" else means_of_windows(kept)

    def working_bytes(self, config: Config, sizes: ModelSizes) -> int:
        """window · (cache of a token + vocabulary · (width + 8)): the softmax converts the logits a second time."""
        window = config.evaluate.perplexity_window or sizes.context
        window = min(window, sizes.text_tokens or window)
        row = sizes.cache_bytes + sizes.vocab_size * (sizes.dtype_bytes + 8)
        return window * row if config.dataset.text else 0


PERPLEXITY = PerplexityMetric()
METRICS.register("perplexity", PERPLEXITY)


def _texts(model: ModelInEngine) -> list[str]:
    texts = [row.text for row in model.rows("text")]
    return ["\n\n".join(texts)] if model.config.dataset.text_joined else texts


def window_losses(loaded: LoadedModel, texts: Sequence[str], window: int | None, stride: int) -> Losses:
    """Negative log-likelihoods of the texts, summed over each position of a sliding window.

    The first token of each text, BOS where the tokenizer adds one, is not scored. Every other token is scored once,
    with at least `window - stride` tokens of context where the text has as many. A window of None is the model's
    maximum. Raises DapaError where there is nothing to score.
    """
    from dapa_exp.evaluate.statistics import Losses

    most: int = loaded.model.config.max_position_embeddings
    window = window or most
    if stride >= window:
        raise DapaError(f"perplexity: stride {stride} is not smaller than the model's window of {window} tokens")
    windows = [found for text in texts for found in _windows(loaded, text, window, stride)]
    if not windows:
        raise DapaError("perplexity: no text is longer than one token")
    if (longest := max(len(ids) for ids, _ in windows)) > most:
        raise DapaError(
            f"evaluate.perplexity_window={window}: a window of {longest} tokens, and the model reads {most}"
            " (max_position_embeddings); null is as many as it reads"
        )
    sums = [0.0] * len(windows)
    for places in equal_length_batches([len(ids) for ids, _ in windows], window):
        for place, losses in zip(places, _token_losses(loaded, [windows[place][0] for place in places]), strict=True):
            sums[place] = float(losses[-windows[place][1] :].double().sum())
    return Losses(sums, [scored for _, scored in windows])


def means_of_windows(losses: Losses) -> Losses:
    """Each window's mean loss as the loss of one token, so that all windows have the same weight."""
    from dapa_exp.evaluate.statistics import Losses

    return Losses([total / count for total, count in zip(*losses, strict=True)], [1] * len(losses.counts))


def perplexity(losses: Losses, words: int) -> Perplexity:
    """exp(sum of NLL / tokens scored), and exp(sum of NLL / words) of a text of so many words, if there are any.

    The intervals are those of a ratio estimator over the windows.
    """
    import numpy as np

    sums, counts = (np.asarray(column, dtype=np.float64) for column in losses)
    return Perplexity(_exponential(sums, counts), _exponential(sums, counts * words / counts.sum()))


def _exponential(losses: np.ndarray, counts: np.ndarray) -> Measure | None:
    """exp(sum of losses / sum of counts), with the interval of a ratio estimator; None where it overflows a float.

    `losses` and `counts` have one entry for each window.
    """
    from dapa_exp.evaluate.statistics import Z

    total, n = float(counts.sum()), len(losses)
    try:
        nll = float(losses.sum()) / total
        if n < 2:
            return Measure(value=math.exp(nll), n=round(total))
        residuals = losses - nll * counts
        error = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total
        half = Z * error
        return Measure(value=math.exp(nll), n=round(total), low=math.exp(nll - half), high=math.exp(nll + half))
    except (OverflowError, ZeroDivisionError):  # a language that puts no spaces between words has hardly any
        return None


def _windows(loaded: LoadedModel, text: str, window: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """The tokens of each window of a text, and how many of the last ones are scored in it."""
    ids = loaded.tokenizer(text)["input_ids"]
    scored = 1
    for start in range(0, len(ids), stride):
        end = min(start + window, len(ids))
        if end > scored:
            yield ids[start:end], end - scored
            scored = end
        if end == len(ids):
            return


def _token_losses(loaded: LoadedModel, windows: Sequence[list[int]]) -> Tensor:
    """The negative log-likelihood of each token but the first, of windows of one length: (windows, tokens - 1)."""
    import torch

    ids = torch.tensor(windows, device=loaded.model.device)
    with torch.inference_mode():
        logits = loaded.model(ids).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view(len(ids), -1)
