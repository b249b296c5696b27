"""The reference engine: batched greedy generation. It reuses nothing between queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from transformers import BatchEncoding, GenerationConfig, PreTrainedTokenizerBase

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.work import TokenWork
from dapa_exp.judges.thoughts import is_mark, opened_by
from dapa_exp.models.ends import ends_of
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.templates import before_answer, render
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import EngineAgreement

Decided = Callable[[Prompt, str], bool]
"""Whether the verdict on an answer is certain from its beginning, so that the rest need not be generated."""


@dataclass(frozen=True)
class Request:
    """Prompts to be answered with the weights that are in the model now."""

    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    rows: frozenset[int] | None = None
    """The indices of the prompts whose answers are wanted. None: all."""
    decided: Decided | None = None
    """When to cut an answer. None: whole answers are wanted."""
    reuse: bool = True
    """True if other hybrids will be asked the same prompts, so that keeping layer outputs on them pays."""

    @property
    def wanted(self) -> list[int]:
        """The indices of the prompts whose answers are wanted, in order."""
        return list(range(len(self.prompts))) if self.rows is None else sorted(self.rows)


@dataclass(frozen=True)
class Completion:
    """A greedy answer. `tokens` counts the generated tokens, including the end token.

    A `cut` answer is only the beginning, up to where its verdict was certain.
    """

    text: str
    tokens: int
    cut: bool = False
    ids: tuple[int, ...] = field(default=(), compare=False)
    """Its tokens; empty if it was read from a run's folder."""


class PlainEngine:
    """Generates answers with the weights that are in the model at the time.

    A prompt's index in the list fixes its batch, because greedy output can change with the composition of its batch.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        self.loaded = loaded
        self.batch_size = batch_size
        # Only the end tokens come from the checkpoint. Its other generation settings, such as a repetition penalty,
        # would change the result: transformers uses them for everything that a call leaves open.
        self.ends = loaded.ends | ends_of(loaded.model, loaded.tokenizer)
        """Tokens that end an answer."""
        self._opening = opening(loaded)
        added = loaded.tokenizer.added_tokens_decoder.items()
        special = {token for token, of in added if of.special} | {*loaded.tokenizer.all_special_ids}
        self._unread = (special | self.ends) - {token for token, of in added if is_mark(of.content)}
        """Special tokens and ends, which are no part of a text. The marks of thoughts are: they say where the answer
        begins."""
        loaded.model.generation_config = self._greedy(1)
        self.work = TokenWork()
        """All work since the engine was made."""

    def batches(self, count: int) -> list[range]:
        """The indices, in a list of `count` prompts, of the prompts that are generated together."""
        return [range(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]

    def answers(self, request: Request) -> dict[int, Completion]:
        """Greedy answers to the prompts of one batch, through the chat template, by their indices in the batch.

        They are the answers that the whole batch gives. An engine that saves work may leave out rows that are not
        wanted, reuse work of earlier hybrids, and cut an answer once its verdict is certain. This engine does not.
        Raises DapaError if the device has too little memory for the batch.
        """
        try:
            answers = self._generate(request.prompts, request.max_new_tokens)
        except torch.OutOfMemoryError as error:
            raise DapaError(
                f"{self.loaded.model.device}: too little memory for {len(request.prompts)} prompts at a time; use a"
                f" smaller runtime.batch_size, or runtime.engine=fast, which fits its batches to the memory: {error}"
            ) from error
        return {place: self._completion(answer) for place, answer in enumerate(answers)}

    def generate_batch(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Completion]:
        """The answers of a whole batch, in its order."""
        answers = self.answers(Request(tuple(prompts), max_new_tokens))
        return [answers[place] for place in range(len(prompts))]

    def beginning(self, answer: Completion, tokens: int) -> str:
        """The text of an answer's first tokens. An answer from disk has no tokens: its text is tokenized again."""
        if answer.tokens <= tokens:
            return answer.text
        ids = answer.ids or answer_tokens(self.loaded, answer.text)
        return self._text(list(ids[:tokens]))

    def suggest(self, prompts: Sequence[Prompt], answers: Sequence[str], units: frozenset[str]) -> None:
        """Give likely answers of the hybrid of these units to a batch, as drafts. This engine uses no drafts."""

    def remember(self, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        """Note that the model as it is answers a batch so, as if it had been asked. The reference has no use for it."""

    def agreement(self, prompts: Sequence[Prompt], max_new_tokens: int) -> EngineAgreement | None:
        """How far answers to the first prompts are from transformers'. None: this engine is transformers'."""
        return None

    def forget(self) -> None:
        """Free what is kept for further queries, because the search is over. This engine keeps nothing."""

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
        """The tokens of each answer, up to its end token, which is included."""
        inputs = encode(self.loaded, prompts)
        output = self.loaded.model.generate(  # type: ignore[operator]
            **inputs, generation_config=self._greedy(max_new_tokens)
        )
        answers = [self._to_end(answer) for answer in output[:, inputs["input_ids"].shape[1] :].tolist()]
        self._count(prompt=int(inputs["attention_mask"].sum()), decoded=sum(map(len, answers)) - len(answers))
        return answers

    def _greedy(self, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=self.loaded.tokenizer.pad_token_id,
        )

    def _to_end(self, answer: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(answer) if token in self.ends), len(answer))
        return answer[: end + 1]

    def _count(self, prompt: int = 0, draft: int = 0, decoded: int = 0, spared: int = 0) -> None:
        """Count tokens that were read. `spared` is the number of layers that they did not go through."""
        tokens, layers = prompt + draft + decoded, self.loaded.model.config.num_hidden_layers
        self.work += TokenWork(prompt, draft, decoded, tokens * (layers - spared), tokens * spared)

    def _completion(self, answer: list[int], cut: bool = False) -> Completion:
        return Completion(self._text(answer), len(answer), cut, tuple(answer))

    def _text(self, answer: list[int]) -> str:
        read = [token for token in answer if token not in self._unread]
        return self._opening + str(self.loaded.tokenizer.decode(read)).strip()


def opening(loaded: LoadedModel) -> str:
    """What stands before the text of every answer: the mark of thoughts that the chat template opens itself."""
    mark = opened_by(before_answer(loaded.tokenizer))
    return f"{mark}\n" if mark else ""


def answer_tokens(loaded: LoadedModel, text: str) -> list[int]:
    """The tokens of an answer as the model would generate it, from its text."""
    found: list[int] = loaded.tokenizer(text.removeprefix(opening(loaded)), add_special_tokens=False)["input_ids"]
    return found


def encode(loaded: LoadedModel, prompts: Sequence[Prompt]) -> BatchEncoding:
    """The token ids of prompts in their chat template, padded on the left: shape (prompts, longest).

    Raises DapaError if a prompt is longer than the model can read: the model would answer without meaning.
    """
    texts = [templated(loaded.tokenizer, prompt) for prompt in prompts]
    inputs = loaded.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    inputs.pop("token_type_ids", None)
    lengths, most = inputs["attention_mask"].sum(-1).tolist(), loaded.model.config.max_position_embeddings
    for prompt, length in zip(prompts, lengths, strict=True):
        if length > most:
            raise DapaError(
                f"prompt {prompt.id}: {length} tokens, and the model reads {most} (max_position_embeddings)"
            )
    return inputs.to(loaded.model.device)


def prompt_tokens(loaded: LoadedModel, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The token ids of prompts in their chat template, without padding. Raises DapaError as `encode` does."""
    inputs = encode(loaded, prompts)
    rows = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in rows]


def token_count(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int:
    """How many tokens a prompt has in its chat template."""
    return len(tokenizer(templated(tokenizer, prompt), add_special_tokens=False)["input_ids"])


def templated(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """A prompt as its model reads it: all its turns, and the start of the answer.

    Raises DapaError where the chat template does not take such turns, or leaves some of their text out.
    """
    try:
        return render(tokenizer, [asdict(message) for message in prompt.messages])
    except DapaError as error:
        raise DapaError(f"prompt {prompt.id}: {error}") from error
