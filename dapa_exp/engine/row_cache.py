"""The key-value cache of rows that are decoded together. Rows can leave it, and tokens can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from dapa_exp.engine.fixed_steps import FixedSteps


class RowCache:
    """The keys and values of some rows.

    New tokens are added on the right. Finished rows leave, and rejected draft tokens are taken back. Then the remaining
    tokens move to the right, so that all rows end in the same column, with padding on their left. Tokens that are
    neighbours in the text stay neighbours in the cache, as sliding windows need it.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.cache = DynamicCache()  # without the config: layers with a sliding window would drop tokens
        self._model = model
        self._mask = torch.zeros((rows, 0), dtype=torch.bool, device=model.device)
        self._lengths = torch.zeros(rows, dtype=torch.long, device=model.device)
        self._given = self._lengths
        """How many tokens each row has read in the last pass."""
        self._width = 0
        """The largest of these numbers."""
        self._even = False
        """Whether all rows have read the same number of tokens in the last pass."""

    def read(self, texts: Sequence[Sequence[int]], last_only: bool = False) -> torch.Tensor:
        """Read one or more tokens of each row. Returns the logits after each token, shape (rows, tokens, vocabulary).

        With `last_only`, returns the logits after the last token of each row only, shape (rows, 1, vocabulary).
        """
        device, self._width = self._mask.device, max(map(len, texts))
        self._even = len(set(map(len, texts))) == 1
        ids = torch.tensor([[*text, *[0] * (self._width - len(text))] for text in texts], device=device)
        ahead = torch.arange(self._width, device=device)
        self._given = torch.tensor([len(text) for text in texts], device=device)
        self._mask = torch.cat([self._mask, ahead < self._given[:, None]], dim=1)
        head: Any = self._model.get_output_embeddings()
        hook = head.register_forward_pre_hook(self._last_states) if last_only else None
        try:
            output = self._model(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=self._lengths[:, None] + ahead,
                past_key_values=self.cache,
                use_cache=True,
            )
        finally:
            if hook is not None:
                hook.remove()
        logits: torch.Tensor = output.logits
        return logits

    def fix(self, last: list[int], room: int) -> FixedSteps:
        """Steps that decode all rows in fixed shapes, after `keep`. Then `take` adds what they have read.

        `last` is each row's last token, which it has not read yet.
        """
        layers: list[Any] = self.cache.layers
        return FixedSteps(self._model, layers, self._mask, self._lengths, last, room)

    def take(self, steps: int) -> None:
        """Note that each row has read this many tokens in fixed shapes, as if in the last pass."""
        rows = len(self._mask)
        self._mask = torch.cat([self._mask, self._mask.new_ones((rows, steps))], dim=1)
        self._given, self._width, self._even = torch.full_like(self._lengths, steps), steps, True

    def spread(self, rows: int) -> None:
        """Copy the single row of the cache to this many rows, which all begin with its tokens."""
        self.keep([0] * rows, [0] * rows)

    def keep(self, rows: Sequence[int], wrong: Sequence[int]) -> None:
        """Keep only these rows, and take back `wrong` of the tokens that each has read in the last pass."""
        if self._even and not any(wrong) and list(rows) == list(range(len(self._mask))):
            # Nothing moves. Without this case, each token would copy the whole cache of a long answer.
            self._lengths = self._lengths + self._given
            self._given, self._width = torch.zeros_like(self._lengths), 0
            return
        device = self._mask.device
        chosen = torch.tensor(rows, device=device)
        settled = self._given[chosen] - torch.tensor(wrong, device=device)
        ends = self._mask.shape[1] - self._width + settled
        self._lengths = self._lengths[chosen] + settled
        self._given, self._width = torch.zeros_like(self._lengths), 0
        longest = int(self._lengths.max())
        column = torch.arange(longest, device=device)
        places = (ends[:, None] - longest + column).clamp(min=0)
        self._mask = column >= longest - self._lengths[:, None]
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.keys = _moved(layer.keys, chosen, places)
            layer.values = _moved(layer.values, chosen, places)

    def _last_states(self, head: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        """The only states that the output embeddings get: those of each row's last token."""
        (states,) = args
        last = (self._given - 1).to(states.device)
        return (states[torch.arange(len(states), device=states.device), last][:, None],)


def _moved(states: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor of shape (rows, heads, tokens, size), each with its own selection of tokens."""
    _, heads, tokens, size = states.shape
    chosen = (rows[:, None] * tokens + places).flatten().to(states.device)
    # As a table with one line for each token, this is several times faster than indexing the tensor directly.
    table = states.transpose(1, 2).reshape(-1, heads * size)
    return table.index_select(0, chosen).view(*places.shape, heads, size).transpose(1, 2)
