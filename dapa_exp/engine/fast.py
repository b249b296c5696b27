"""The fast engine: what the reference engine says, for less, where a model's siblings were asked before.

Three levers, each of them exact:

1. *Reuse of activations.* Layers below the first one in which a hybrid differs from an earlier one make the same of
   the same prompts. That is kept (`Activations`), and prompts are read from there on.
2. *Drafts.* An earlier hybrid's answer is read in one pass. As much of it as the hybrid would have said itself is its
   answer, and only rows that say something else go on: speculative decoding (Y. Leviathan, M. Kalman, Y. Matias: Fast
   Inference from Transformers via Speculative Decoding, 2023) for greedy decoding, whole batches and free drafts.
3. *Early verdicts.* A row whose answer is decided leaves its batch.

Float32 sums depend in their last bits on the shapes of what is summed, and shapes are not the reference's here. Where
two tokens are as likely but for such a difference (`NEAR_TIE`), the reference decides: it generates the batch again.
In shorter types near ties are too frequent for that, and the likeliest token is taken as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import BatchEncoding

from dapa_exp.engine.activations import Activations, reuse
from dapa_exp.engine.drafts import Drafts, continuation
from dapa_exp.engine.flight import Flight
from dapa_exp.engine.plain import Completion, Decided, PlainEngine, encode
from dapa_exp.engine.spent import Spent
from dapa_exp.evaluate.prompts import Prompt
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel

NEAR_TIE = 2e-5
"""Difference of the two highest logits, over the highest magnitude, below which rounding could exchange them."""


class NearTieError(Exception):
    """Two tokens are so nearly as likely that shapes could decide between them."""


@dataclass(frozen=True)
class Limit:
    """How far an answer goes, if it does not end by itself."""

    max_new_tokens: int
    decided: Decided | None


@dataclass(frozen=True)
class Batch:
    """Prompts that are always answered together, and what is known of them from earlier hybrids."""

    number: int
    prompts: tuple[Prompt, ...]
    inputs: BatchEncoding
    drafts: Drafts = field(default_factory=Drafts)
    decided: dict[tuple[Decided, int, tuple[int, ...]], bool] = field(default_factory=dict)
    """Whether an answer's beginning is decided, by whom, of which row."""


@dataclass
class Row:
    """A prompt, by its place in the batch, and what was answered so far."""

    place: int
    said: list[int] = field(default_factory=list)
    done: bool = False
    cut: bool = False


class FastEngine(PlainEngine):
    """Says what PlainEngine says. Lever 1 may hold `reuse_bytes`, 0 for none; the flags switch the others."""

    def __init__(
        self,
        loaded: LoadedModel,
        batch_size: int,
        *,
        reuse_bytes: int,
        drafts: bool = True,
        early_verdicts: bool = True,
    ) -> None:
        super().__init__(loaded, batch_size)
        self._activations = Activations(reuse_bytes)
        self._use_drafts = drafts
        self._early_verdicts = early_verdicts
        self._batches: dict[tuple[Prompt, ...], Batch] = {}
        config = loaded.model.config
        table = architecture(config.model_type)
        self._layers: list[nn.Module] = [
            loaded.model.get_submodule(table.submodule(layer, "layer")) for layer in range(config.num_hidden_layers)
        ]

    @torch.inference_mode()
    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        carried: frozenset[str] | None = None,
        decided: Decided | None = None,
    ) -> list[Completion]:
        """Complete one batch. Where `carried` is not None, all weights must be the student's but for these units."""
        batch = self._batch(tuple(prompts))
        limit = Limit(max_new_tokens, decided if self._early_verdicts else None)
        try:
            rows = self._answer(batch, carried, limit)
        except NearTieError:
            rows = self._answer_by_reference(batch, limit)
        if self._use_drafts:
            batch.drafts.add(carried or frozenset(), [row.said for row in rows])
        return [Completion(self._text(row.said), len(row.said), row.cut) for row in rows]

    def _batch(self, prompts: tuple[Prompt, ...]) -> Batch:
        if prompts not in self._batches:
            self._batches[prompts] = Batch(len(self._batches), prompts, encode(self.loaded, prompts))
        return self._batches[prompts]

    def _answer(self, batch: Batch, carried: frozenset[str] | None, limit: Limit) -> list[Row]:
        rows = [Row(place) for place in range(len(batch.prompts))]
        drafts = batch.drafts.nearest(carried or frozenset())
        flight, logits = self._read_prompts(batch, carried)
        for row, tokens in zip(rows, self._likeliest(logits), strict=True):
            self._say(batch, row, tokens, limit)
        flying, kept, width = rows, [0] * len(rows), 0
        while places := [place for place, row in enumerate(flying) if not row.done]:
            flight.keep(places, [kept[place] for place in places], width)
            flying = [flying[place] for place in places]
            guesses = [
                continuation(drafts, row.place, row.said)[: limit.max_new_tokens - len(row.said)] for row in flying
            ]
            # The last token of a guess need not be read to be found right.
            texts = [[row.said[-1], *guess[:-1]] for row, guess in zip(flying, guesses, strict=True)]
            likeliest = self._likeliest(flight.read(texts))
            width = max(map(len, texts))
            self._count(draft=sum(map(len, texts)) - len(texts), decoded=len(texts))
            kept = [
                self._say(batch, row, _agreed(guess, tokens), limit)
                for row, guess, tokens in zip(flying, guesses, likeliest, strict=True)
            ]
        return rows

    def _answer_by_reference(self, batch: Batch, limit: Limit) -> list[Row]:
        self.spent += Spent(near_ties=1)
        rows = [Row(place) for place in range(len(batch.prompts))]
        for row, tokens in zip(rows, self._generate(batch.prompts, limit.max_new_tokens), strict=True):
            self._say(batch, row, tokens, limit)
        return rows

    def _read_prompts(self, batch: Batch, carried: frozenset[str] | None) -> tuple[Flight, torch.Tensor]:
        """Read a batch's prompts, from the first layer that makes something new of them."""
        flight = Flight(self.loaded.model, batch.inputs["attention_mask"])
        path = [] if carried is None else self._activations.path(batch.number, carried, len(self._layers))
        with reuse(self._activations, path, self._layers, flight.cache) as spared:
            logits = flight.read_prompts(batch.inputs["input_ids"])
        self._count(prompt=int(batch.inputs["attention_mask"].sum()), spared=spared)
        return flight, logits

    def _likeliest(self, logits: torch.Tensor) -> list[Iterator[int]]:
        """Of each row the likeliest token at each place. Taking one that is but nearly so raises NearTieError."""
        tokens = logits.argmax(-1)
        unsure = torch.zeros_like(tokens, dtype=torch.bool)
        if logits.dtype == torch.float32:
            first, second = logits.topk(2).values.unbind(-1)
            unsure = first - second < NEAR_TIE * torch.maximum(first, -logits.amin(-1))
        return [_sure(*row) for row in zip(tokens.tolist(), unsure.tolist(), strict=True)]

    def _say(self, batch: Batch, row: Row, tokens: Iterable[int], limit: Limit) -> int:
        """Have a row say tokens until it is done; returns how many it said."""
        before = len(row.said)
        for token in tokens:
            row.said.append(token)
            ended = token in self._ends or len(row.said) == limit.max_new_tokens
            row.cut = not ended and limit.decided is not None and self._is_decided(batch, row, limit.decided)
            row.done = ended or row.cut
            if row.done:
                break
        return len(row.said) - before

    def _is_decided(self, batch: Batch, row: Row, decided: Decided) -> bool:
        key = decided, row.place, tuple(row.said)
        if key not in batch.decided:
            batch.decided[key] = decided(batch.prompts[row.place], self._text(row.said))
        return batch.decided[key]


def _sure(tokens: Iterable[int], unsure: Iterable[bool]) -> Iterator[int]:
    for token, doubtful in zip(tokens, unsure, strict=True):
        if doubtful:
            raise NearTieError
        yield token


def _agreed(guess: Sequence[int], tokens: Iterable[int]) -> Iterator[int]:
    """What a row says while its guess is right, and the first token that differs; one token where it has no guess."""
    for guessed, token in zip(guess or [None], tokens, strict=False):
        yield token
        if token != guessed:
            return
