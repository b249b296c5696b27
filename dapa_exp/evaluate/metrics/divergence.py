"""KL divergence: how far a model's next-token distributions are from the student's and from the teacher's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from dapa_exp.config.registries import ModelSizes
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.equal_lengths import equal_length_batches
from dapa_exp.evaluate.metric import METRICS, Measure, Metric, ModelInEngine, ModelName, Step, compared_rows
from dapa_exp.prompts.prompt import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from dapa_exp.engine.plain import Completion
    from dapa_exp.models.load import LoadedModel

    Reference = list[tuple[list[int], Tensor]]
    """For each prompt, the first tokens of the reference's answer, and its log-probabilities of each of
    them and of the one after, shape (tokens + 1, vocabulary)."""

PROMPT_SET: dict[ModelName, str] = {"student": "harmless", "teacher": "report"}
"""The prompts on which a model is compared with student and teacher."""


class Divergence(Metric):
    """KL(reference ‖ model) in nats a token, at each of `evaluate.divergence_temperatures`.

    The reference is the student on harmless requests, and the teacher on harmful ones. It is left out where the
    vocabularies differ.
    """

    name = "divergence"
    titles: ClassVar[dict[str, str]] = {
        "kl_to_student": "KL from the student, harmless requests, T = {}",
        "kl_to_teacher": "KL from the teacher, harmful requests, T = {}",
    }
    place = 50
    shared = True

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        steps: dict[str, Step] = {}
        for other in (other for other in PROMPT_SET if other in model.earlier and _rows(model, other)):
            against = _remembered(model, other)
            if against[0][1].shape[-1] == model.loaded.model.config.vocab_size:
                temperatures = model.config.evaluate.divergence_temperatures
                steps[f"kl_to_{other}"] = partial(
                    divergence, model.loaded, _rows(model, other), against, temperatures, model.engine.batch_size
                )
        return steps

    def keep(self, model: ModelInEngine) -> None:
        if model.name in PROMPT_SET and _rows(model, model.name):
            _remembered(model, model.name)

    def kept_bytes(self, config: Config, sizes: ModelSizes) -> int:
        """Float32 log-probabilities of student and teacher, at each token and after the last."""
        return compared_rows(config) * (config.evaluate.divergence_tokens + 1) * sizes.vocab_size * 4


METRICS.register("divergence", Divergence())


def _rows(model: ModelInEngine, other: ModelName) -> list[Prompt]:
    return model.rows(PROMPT_SET[other])[: model.config.evaluate.divergence_rows]


def _remembered(model: ModelInEngine, owner: ModelName) -> Reference:
    """The owner's distributions, which stay in the run's folder until the run is done."""

    def compute() -> dict[str, Tensor]:
        import torch

        rows, answers = _rows(model, owner), model.answers(PROMPT_SET[owner])
        tokens, batch_size = model.config.evaluate.divergence_tokens, model.engine.batch_size
        found = reference(model.loaded, rows, answers[: len(rows)], tokens, batch_size)
        return {
            f"{i}.{part}": tensor
            for i, (ids, logs) in enumerate(found)
            for part, tensor in (("ids", torch.tensor(ids, dtype=torch.int64)), ("logs", logs))
        }

    kept = model.tensors(model.run.files.reference(owner), owner, compute)
    return [(kept[f"{i}.ids"].tolist(), kept[f"{i}.logs"]) for i in range(len(kept) // 2)]


def reference(
    loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Completion], tokens: int, batch_size: int
) -> Reference:
    """The model's next-token distributions along the first `tokens` tokens of its own answers."""
    from dapa_exp.engine.plain import answer_tokens

    ids = [answer_tokens(loaded, answer.text)[:tokens] for answer in answers]
    found = dict(_log_probabilities(loaded, prompts, ids, batch_size))
    return [(row, found[place]) for place, row in enumerate(ids)]


def divergence(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    against: Reference,
    temperatures: Sequence[float],
    batch_size: int,
) -> dict[str, Measure]:
    """KL(reference ‖ model) in nats, by temperature: the mean over the positions of an answer, then over answers.

    At temperature T both distributions are softmax(logits / T) (Hinton et al. 2015, arXiv 1503.02531).
    """
    from dapa_exp.evaluate.statistics import mean

    values = {f"{temperature:g}": [0.0] * len(prompts) for temperature in temperatures}
    for place, ours in _log_probabilities(loaded, prompts, [ids for ids, _ in against], batch_size):
        for temperature in temperatures:
            p, q = ((logs / temperature).log_softmax(-1) for logs in (against[place][1], ours))
            values[f"{temperature:g}"][place] = float((p.exp() * (p - q)).sum(-1).mean())
    return {temperature: mean(found) for temperature, found in values.items()}


def _log_probabilities(
    loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[int, Tensor]]:
    """For each prompt: its index, and the log-probabilities at each token of its answer and after the last.

    Their shape is (tokens of the answer + 1, vocabulary), on the CPU. A batch has at most as many tokens as
    `batch_size` rows of the longest text.
    """
    import torch

    from dapa_exp.engine.plain import prompt_tokens

    asked = prompt_tokens(loaded, prompts)
    rows = [torch.tensor([*ids, *answer]) for ids, answer in zip(asked, answers, strict=True)]
    lengths = list(map(len, rows))
    for places in equal_length_batches(lengths, batch_size * max(lengths)):
        most = max(len(answers[place]) for place in places) + 1
        with torch.inference_mode():
            ids = torch.stack([rows[place] for place in places]).to(loaded.model.device)
            logits = loaded.model(ids, logits_to_keep=most).logits
        for place, row in zip(places, logits, strict=True):
            yield place, row[-len(answers[place]) - 1 :].float().log_softmax(-1).cpu()
