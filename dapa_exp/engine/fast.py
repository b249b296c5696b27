"""The fast engine: the same answers as the reference engine, with less work if similar hybrids have answered before.

It saves work in three ways. Each of them is exact:

1. *Reuse of activations.* Two hybrids have the same layer outputs for a prompt up to the first layer in which they
   differ. These outputs are kept (`Activations`), and the next hybrid starts from them.
2. *Drafts.* An earlier hybrid's answer to the prompt, or to another prompt, is a draft. The model reads the draft in
   one pass. The draft is accepted up to the first token that the hybrid itself would not have chosen. This is
   speculative decoding (Y. Leviathan, M. Kalman, Y. Matias: Fast Inference from Transformers via Speculative Decoding,
   2023) for greedy decoding of batches, with drafts that cost nothing.
3. *Early verdicts.* A row leaves its batch as soon as the verdict on its answer is certain.

Also, tokens that all prompts of a batch begin with, such as a system prompt, are read once. On a GPU, long answers are
decoded in fixed shapes (`FixedSteps`), without drafts.

In float32, the last bits of a sum depend on tensor shapes, and shapes differ from the reference engine's. If two tokens
are so close that rounding could exchange them (`NEAR_TIE`), the reference engine decides: it generates the batch up to
that token. In shorter dtypes near ties are too frequent for that, and the token with the highest logit is taken.

If a device runs out of memory, the engine first drops the activations that it has kept, then reads fewer rows at a
time. So a batch size or `reuse_memory` that is too large does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.activations import Activations, reuse
from dapa_exp.engine.drafts import Answers, Drafts, continuation
from dapa_exp.engine.fixed_steps import can_decode_in_fixed_shapes
from dapa_exp.engine.plain import Completion, Decided, PlainEngine, Request, answer_tokens, prompt_tokens
from dapa_exp.engine.row_cache import RowCache
from dapa_exp.engine.work import TokenWork
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.transplanted import transplanted
from dapa_exp.prompts.prompt import Prompt

NEAR_TIE = 1e-5
"""Two tokens nearly tie if the difference of the two highest logits, over the largest magnitude, is below this.

On the miniatures, other tensor shapes changed logits by up to 6e-7 of that magnitude.
"""

WORTH_A_PASS = 8
"""Prompts of a batch must share at least this many tokens for a separate pass over them to pay."""

SEGMENT = 128
"""Tokens that are decoded in the same shapes. After them, rows that have ended leave, and the cache grows."""

STRIDE = 16
"""Steps in fixed shapes between two looks at whether all answers have ended.

As many ordinary rounds come first, since short answers end within them.
"""

CLIPPED_SHARE = 8
"""Guesses are clipped so that at most one guess in this many is longer than the clip."""


@dataclass(frozen=True)
class Batch:
    """Prompts that are always answered together, and what earlier hybrids have answered to them."""

    number: int
    prompts: tuple[Prompt, ...]
    shared: list[int]
    """Tokens that all prompts begin with, such as a system prompt."""
    texts: list[list[int]]
    """The tokens of each prompt after the shared ones."""
    drafts: Drafts = field(default_factory=Drafts)
    decided: dict[tuple[Decided, int, tuple[int, ...]], bool] = field(default_factory=dict)
    """Whether the beginning of an answer is decided, by the judge's function, the row and the tokens so far."""


@dataclass
class Row:
    """The answer to one prompt so far. `place` is the prompt's index in the batch."""

    place: int
    said: list[int] = field(default_factory=list)
    done: bool = False
    cut: bool = False


@dataclass
class Generation:
    """Rows of a batch that one hybrid answers, and the part of the reference engine's answers that was needed."""

    batch: Batch
    places: Sequence[int]
    request: Request
    units: frozenset[str] | None
    """The hybrid's transplanted units. None if unit names do not identify its weights."""
    reference: list[list[int]] = field(default_factory=list)
    """The first `reference_length` tokens of the reference engine's answers to the whole batch."""
    reference_length: int = 0


class FastEngine(PlainEngine):
    """Gives PlainEngine's answers with less work. `reuse_bytes` limits the kept activations; 0 turns reuse off."""

    def __init__(
        self,
        loaded: LoadedModel,
        batch_size: int,
        *,
        reuse_bytes: int,
        drafts: bool = True,
        early_verdicts: bool = True,
        graphs: bool = False,
    ) -> None:
        super().__init__(loaded, batch_size)
        self._activations = Activations(reuse_bytes)
        self._rows_at_once = batch_size
        self._use_drafts = drafts
        self._early_verdicts = early_verdicts
        self._graphs = graphs
        self._batches: dict[tuple[Prompt, ...], Batch] = {}
        config = loaded.model.config
        table = architecture(config.model_type)
        self._layers: list[nn.Module] = [
            loaded.model.get_submodule(table.submodule(layer, "layer")) for layer in range(config.num_hidden_layers)
        ]

    @torch.inference_mode()
    def answers(self, request: Request) -> dict[int, Completion]:
        batch, units = self._batch(request.prompts), transplanted(self.loaded.model)
        drafts = batch.drafts.nearest(units or frozenset())
        request = request if self._early_verdicts else replace(request, decided=None)
        rows = self._answer_in_memory(Generation(batch, request.wanted, request, units), drafts)
        self._draft(batch, {row.place: row.said for row in rows})
        return {row.place: self._completion(row.said, row.cut) for row in rows}

    def suggest(self, prompts: Sequence[Prompt], answers: Sequence[str], units: frozenset[str]) -> None:
        """Use the answers of another model as drafts, as if the hybrid of these units had given them."""
        if self._use_drafts:
            tokens = [answer_tokens(self.loaded, answer) for answer in answers]
            self._batch(tuple(prompts)).drafts.add(units, dict(enumerate(tokens)))

    def remember(self, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        self._draft(self._batch(tuple(prompts)), {place: list(answer.ids) for place, answer in enumerate(answers)})

    def forget(self) -> None:
        self._activations.clear()

    def _batch(self, prompts: tuple[Prompt, ...]) -> Batch:
        if prompts not in self._batches:
            texts = prompt_tokens(self.loaded, prompts)
            shared = _shared(texts)
            self._batches[prompts] = Batch(
                len(self._batches), prompts, texts[0][:shared], [text[shared:] for text in texts]
            )
        return self._batches[prompts]

    def _draft(self, batch: Batch, answers: Answers) -> None:
        """Keep answers of the model as it is, as drafts for hybrids to come."""
        if self._use_drafts:
            batch.drafts.add(transplanted(self.loaded.model) or frozenset(), answers)

    def _answer_in_memory(self, generation: Generation, drafts: Sequence[Answers]) -> list[Row]:
        """The hybrid's answers: to all rows at once, or to fewer at a time if memory has run out before."""
        rows: list[Row] = []
        while len(rows) < len(generation.places):
            some = generation.places[len(rows) :][: self._rows_at_once]
            try:
                rows += self._answer(replace(generation, places=some), drafts)
            except torch.OutOfMemoryError as error:
                self._make_room(len(some), error)
        return rows

    def _make_room(self, rows: int, error: torch.OutOfMemoryError) -> None:
        """Drop kept activations. If there are none, read half as many rows at a time from now on."""
        if self._activations.bytes:
            self._activations.shrink()
        elif rows > 1:
            self._rows_at_once = rows // 2
        else:
            raise DapaError(
                f"{self.loaded.model.device}: too little memory for the model and one prompt; use a smaller"
                f" runtime.dtype, or more devices (runtime.device=auto): {error}"
            ) from error

    def _answer(self, generation: Generation, drafts: Sequence[Answers]) -> list[Row]:
        """Generate in rounds. In each round, every unfinished row reads its last token and a guess of the next ones."""
        rows = active = [Row(place) for place in generation.places]
        guesses: list[list[int]] = [[] for _ in rows]
        cache, logits = self._read_prompts(generation)
        rounds, fixed = 0, self._decodes_in_fixed_shapes(generation)
        while True:
            likeliest = self._likeliest(generation, active, logits)
            said = [
                self._say(generation, row, _agreed(guess, tokens))
                for row, guess, tokens in zip(active, guesses, likeliest, strict=True)
            ]
            going = [line for line, row in enumerate(active) if not row.done]
            if not going:
                return rows
            cache.keep(going, [max(1, len(guesses[line])) - said[line] for line in going])
            active = [active[line] for line in going]
            rounds += 1
            if fixed and rounds >= STRIDE:
                self._decode_in_fixed_shapes(generation, active, cache)
                return rows
            guesses = _clipped([self._guess(generation, row, drafts) for row in active])
            # The last token of a guess is checked without being read.
            texts = [[row.said[-1], *guess[:-1]] for row, guess in zip(active, guesses, strict=True)]
            logits = cache.read(texts)
            self._count(draft=sum(map(len, texts)) - len(texts), decoded=len(texts))

    def _decodes_in_fixed_shapes(self, generation: Generation) -> bool:
        """Whether long answers are decoded in fixed shapes.

        Not in float32: there the reference engine decides near ties, which only the logits of each step show.
        """
        model, request = self.loaded.model, generation.request
        longest = max(map(len, generation.batch.texts)) + len(generation.batch.shared) + request.max_new_tokens
        return (
            self._graphs
            and model.device.type == "cuda"
            and model.dtype != torch.float32
            and request.decided is None
            and can_decode_in_fixed_shapes(model, longest)
        )

    def _decode_in_fixed_shapes(self, generation: Generation, active: list[Row], cache: RowCache) -> None:
        """Decode the rest of all answers. Rows that have ended leave after each segment."""
        while True:
            room = min(SEGMENT, generation.request.max_new_tokens - min(len(row.said) for row in active))
            steps = cache.fix([row.said[-1] for row in active], room)
            while steps.done < room and not all(row.done for row in active):
                for row, tokens in zip(active, steps.next(min(STRIDE, room - steps.done)), strict=True):
                    if not row.done:
                        self._count(decoded=self._say(generation, row, tokens))
            going = [line for line, row in enumerate(active) if not row.done]
            if not going:
                return
            cache.take(steps.done)
            cache.keep(going, [0] * len(going))
            active = [active[line] for line in going]

    def _read_prompts(self, generation: Generation) -> tuple[RowCache, torch.Tensor]:
        """Read prompts of a batch. Layers whose outputs are kept from an earlier hybrid are not computed."""
        batch, units = generation.batch, generation.units
        texts = [batch.texts[place] for place in generation.places]
        cache = RowCache(self.loaded.model, 1 if batch.shared else len(texts))
        if batch.shared:
            cache.read([batch.shared], last_only=True)
            cache.spread(len(texts))
            self._count(prompt=len(batch.shared))
        path = []
        if units is not None and generation.request.reuse:
            path = self._activations.path(batch.number, units, len(self._layers))
        with reuse(self._activations, path, generation.places, self._layers, cache.cache) as spared:
            logits = cache.read(texts, last_only=True)
        self._count(prompt=sum(map(len, texts)), spared=spared)
        return cache, logits

    def _likeliest(self, generation: Generation, rows: Sequence[Row], logits: torch.Tensor) -> list[Iterator[int]]:
        """For each row, an iterator over its greedy tokens. A near tie is decided when its token is read."""
        tokens = logits.argmax(-1)
        near_ties = torch.zeros_like(tokens, dtype=torch.bool)
        if logits.dtype == torch.float32:
            first, second = logits.topk(2).values.unbind(-1)
            near_ties = first - second < NEAR_TIE * torch.maximum(first, -logits.amin(-1))

        def ask(row: Row, likeliest: list[int], near: list[bool]) -> Iterator[int]:
            for token, doubtful in zip(likeliest, near, strict=True):
                yield self._by_reference(generation, row) if doubtful else token

        return [ask(*found) for found in zip(rows, tokens.tolist(), near_ties.tolist(), strict=True)]

    def _by_reference(self, generation: Generation, row: Row) -> int:
        """The next token of a row, as the reference engine generates it."""
        place = len(row.said)
        if place >= generation.reference_length:
            generation.reference_length = place + 1
            generation.reference = self._generate(generation.batch.prompts, generation.reference_length)
            self.work += TokenWork(near_ties=1)
        return generation.reference[row.place][place]

    def _say(self, generation: Generation, row: Row, tokens: Iterable[int]) -> int:
        """Append tokens to a row's answer until it is done. Returns how many were appended."""
        before = len(row.said)
        for token in tokens:
            row.said.append(token)
            ended = token in self.ends or len(row.said) == generation.request.max_new_tokens
            row.cut = not ended and self._is_decided(generation, row.place, row.said)
            row.done = ended or row.cut
            if row.done:
                break
        return len(row.said) - before

    def _guess(self, generation: Generation, row: Row, drafts: Sequence[Answers]) -> list[int]:
        """A guess of the row's next tokens, up to where its verdict would be decided."""
        guess = continuation(drafts, row.place, row.said)[: generation.request.max_new_tokens - len(row.said)]
        ends = (end for end in range(1, len(guess)) if self._is_decided(generation, row.place, row.said + guess[:end]))
        return guess[: next(ends, len(guess))]

    def _is_decided(self, generation: Generation, place: int, said: list[int]) -> bool:
        if generation.request.decided is None:
            return False
        known, key = generation.batch.decided, (generation.request.decided, place, tuple(said))
        if key not in known:
            known[key] = generation.request.decided(generation.batch.prompts[place], self._text(said))
        return known[key]


def _shared(texts: Sequence[list[int]]) -> int:
    """The number of shared tokens to read once for all texts; 0 if that does not pay. Each text keeps one token."""
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    length = min(length, *(len(text) - 1 for text in texts)) if len(texts) > 1 else 0
    return length if length >= WORTH_A_PASS else 0


def _clipped(guesses: list[list[int]]) -> list[list[int]]:
    """The guesses, with the few longest ones clipped: the longest one decides how much padding the other rows read."""
    lengths = sorted(map(len, guesses))
    longest = max(1, lengths[-1 - len(lengths) // CLIPPED_SHARE])
    return [guess[:longest] for guess in guesses]


def _agreed(guess: Sequence[int], tokens: Iterable[int]) -> Iterator[int]:
    """A row's tokens while they agree with its guess, and the first that differs. One token without a guess."""
    expected: Sequence[int | None] = guess or [None]
    for guessed, token in zip(expected, tokens, strict=False):
        yield token
        if token != guessed:
            return
