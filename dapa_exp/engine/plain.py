"""The reference engine: batched greedy generation, nothing reused between queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from transformers import BatchEncoding, GenerationConfig

from dapa_exp.evaluate.prompts import Prompt
from dapa_exp.models.load import LoadedModel


@dataclass(frozen=True)
class Completion:
    """A greedy answer. `tokens` counts what was generated, the end token included."""

    text: str
    tokens: int


class PlainEngine:
    """Generates for whatever weights the model holds at the time.

    A row's batch is fixed by its place in the prompt list, since greedy output can change with the
    composition of its batch.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        self.loaded = loaded
        self.batch_size = batch_size
        own = loaded.model.generation_config
        eos = own.eos_token_id if own is not None else None
        # Only the end tokens are the checkpoint's own. Its other settings would decide the result, and
        # transformers fills from them what a call leaves open (a repetition penalty, for one).
        self._ends = eos if eos is not None else loaded.tokenizer.eos_token_id
        loaded.model.generation_config = self._greedy(1)

    def batches(self, count: int) -> list[range]:
        """The places, in a list of `count` prompts, that are generated together."""
        return [range(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]

    @torch.inference_mode()
    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Completion]:
        """Complete one batch, greedily, through the chat template."""
        inputs = encode(self.loaded, prompts)
        output = self.loaded.model.generate(  # type: ignore[operator]
            **inputs, generation_config=self._greedy(max_new_tokens)
        )
        answers = output[:, inputs["input_ids"].shape[1] :]
        return [self._completion(answer) for answer in answers]

    def _greedy(self, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._ends,
            pad_token_id=self.loaded.tokenizer.pad_token_id,
        )

    def _completion(self, answer: torch.Tensor) -> Completion:
        tokenizer = self.loaded.tokenizer
        ends = torch.isin(answer, torch.as_tensor(self._ends, device=answer.device)).nonzero()
        length = int(ends[0]) + 1 if len(ends) else len(answer)
        text = str(tokenizer.decode(answer[:length], skip_special_tokens=True))
        return Completion(text.strip(), length)


def encode(loaded: LoadedModel, prompts: Sequence[Prompt]) -> BatchEncoding:
    """Token ids, shape (prompts, longest), padded on the left, each prompt's turns put through the chat template."""
    texts = [templated(loaded, prompt) for prompt in prompts]
    inputs = loaded.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    inputs.pop("token_type_ids", None)
    return inputs.to(loaded.model.device)


def templated(loaded: LoadedModel, prompt: Prompt) -> str:
    """A prompt as its model reads it: all its turns, and the start of the answer."""
    turns = [asdict(message) for message in prompt.messages]
    return str(loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
