"""Fine-tunes the student on the search rows: a baseline that has the same data as the search.

The targets are the teacher's answers to the harmful search rows. Harmless rows, with the student's own answers as
targets, keep it from refusing everything.

- `sft`: the cross-entropy of these answers.
- `dpo`: direct preference optimisation (R. Rafailov et al., arXiv 2305.18290, equation 7). The other answer of a
  harmful row is the student's own; that of a harmless row is one of the teacher's answers to a harmful row.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from dapa_exp.base.errors import DapaError
from dapa_exp.base.packages import need_package
from dapa_exp.engine.plain import templated
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.transplant.methods.tuned import TuningSettings

WARM_UP = 0.1
"""The share of the steps over which the learning rate rises; then it falls linearly to 0."""
Tokens = tuple[list[int], list[int]]
"""A prompt and an answer."""


@dataclass(frozen=True)
class Example:
    """A prompt, the answer to learn, and the answer to move away from (which only DPO uses)."""

    prompt: Prompt
    better: str
    worse: str


def tune(
    loaded: LoadedModel, pair: Pair, examples: Sequence[Example], settings: TuningSettings
) -> tuple[dict[str, torch.Tensor], int]:
    """Tune the units' tensors. Returns the tuned parts by name, and the number of tokens trained on.

    The model must hold the student, and holds it again, bit for bit, on return. Raises DapaError unless its dtype is
    float32: smaller dtypes lose small gradient steps.
    """
    if loaded.model.dtype != torch.float32:
        raise DapaError(f"transplant=fine_tune: tunes in float32; runtime.dtype is {str(loaded.model.dtype)[6:]}")
    row = architecture(pair.model_type)
    places = {str(part): (part, row.parameter_of(part.tensor)) for parts in pair.units.values() for part in parts}
    parameters = dict(loaded.model.named_parameters())
    learning = sorted({place.parameter for _, place in places.values()})
    with _restored(loaded.model, learning):
        if settings.rank is None:
            tokens = _fit(loaded, [parameters[name] for name in learning], examples, settings)
        else:
            tokens = _fit_low_rank(loaded, learning, settings.rank, examples, settings)
        tuned = {
            name: part.of(place.of(parameters[place.parameter])).detach().clone()
            for name, (part, place) in places.items()
        }
    return tuned, tokens


@contextmanager
def _restored(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Restore these parameters, bit for bit, when the block ends."""
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in names}
    frozen = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                parameters[name].copy_(tensor)
        for name, parameter in parameters.items():
            parameter.requires_grad_(frozen[name])
            parameter.grad = None
        model.eval()


def _fit_low_rank(
    loaded: LoadedModel, names: Sequence[str], rank: int, examples: Sequence[Example], settings: TuningSettings
) -> int:
    """Train LoRA adapters of the weights' modules, and merge them into the weights."""
    need_package("peft", "transplant.rank: tuning LoRA adapters")
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    linear = [name.removesuffix(".weight") for name in names if name.endswith("proj.weight")]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=linear)
    adapted = get_peft_model(loaded.model, config)
    tokens = _fit(loaded, [p for p in adapted.parameters() if p.requires_grad], examples, settings)
    adapted.merge_and_unload()
    return tokens


def _fit(
    loaded: LoadedModel, learning: Sequence[nn.Parameter], examples: Sequence[Example], settings: TuningSettings
) -> int:
    """Minimise the objective by AdamW. Returns the number of tokens trained on, prompts included."""
    for parameter in loaded.model.parameters():
        parameter.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    rows = [_tokens(loaded, example.prompt, example.better) for example in examples]
    if settings.objective == "dpo":
        rows += [_tokens(loaded, example.prompt, example.worse) for example in examples]
    student = torch.cat([_log_likelihoods(loaded, rows[i : i + 1])[0].detach() for i in range(len(rows))])
    optimizer = torch.optim.AdamW(learning, lr=settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _pace(done, settings.steps))
    draw, tokens = random.Random(settings.seed), 0
    for _ in range(settings.steps):
        better = draw.sample(range(len(examples)), min(settings.batch, len(examples)))
        drawn = better if settings.objective == "sft" else [*better, *(place + len(examples) for place in better)]
        found, counts = _log_likelihoods(loaded, [rows[place] for place in drawn])
        loss = -found.sum() / counts.sum()
        if settings.objective == "dpo":
            gains, losses = (found - student[drawn]).chunk(2)
            loss = -functional.logsigmoid(settings.beta * (gains - losses)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        tokens += sum(len(rows[place][0]) + len(rows[place][1]) for place in drawn)
    return tokens


def _pace(done: int, steps: int) -> float:
    warm = max(1, round(WARM_UP * steps))
    return min((done + 1) / warm, (steps - done) / max(1, steps - warm))


def _tokens(loaded: LoadedModel, prompt: Prompt, answer: str) -> Tokens:
    """Token ids of the rendered prompt, and of the answer with its end."""
    tokenizer = loaded.tokenizer
    asked = tokenizer(templated(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    said = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return asked, said if tokenizer.eos_token_id is None else [*said, tokenizer.eos_token_id]


def _log_likelihoods(loaded: LoadedModel, rows: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each answer given its prompt, in nats, and its number of tokens; both of shape (rows,)."""
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    answered, there = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end], there[row, :end] = torch.tensor(prompt + answer), 1
        answered[row, len(prompt) : end] = 1
    device = loaded.model.device
    logits = loaded.model(ids.to(device), attention_mask=there.to(device), use_cache=False).logits[:, :-1].float()
    found = logits.log_softmax(-1).gather(-1, ids[:, 1:, None].to(device)).squeeze(-1)
    answered = answered[:, 1:].to(device)
    return (found * answered).sum(1), answered.sum(1)


def make_examples(
    harmful: Sequence[tuple[Prompt, str, str]], harmless: Sequence[tuple[Prompt, str]], seed: int
) -> list[Example]:
    """Harmful rows come with the teacher's and the student's answer, harmless ones with the student's."""
    draw = random.Random(seed)
    return [
        *(Example(prompt, teacher, student) for prompt, teacher, student in harmful),
        *(Example(prompt, student, draw.choice(harmful)[1]) for prompt, student in harmless),
    ]
