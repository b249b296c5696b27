"""Rows that are decoded together: what the model has read of each, and how that grows and is cut back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel


class RowCache:
    """The keys and values of some rows.

    What a row reads is added on the right. Rows that are done leave, and tokens that turn out not to be said are taken
    back; the rest then moves to the right, so that all rows end in the same column and padding is on their left. A
    row's neighbours in the cache are always its neighbours in the text, as sliding windows need it.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.cache = DynamicCache()  # not by the config: layers with a window would forget what they must give back
        self._model = model
        self._mask = torch.zeros((rows, 0), dtype=torch.bool, device=model.device)
        self._lengths = torch.zeros(rows, dtype=torch.long, device=model.device)
        self._given = self._lengths
        """How many tokens each row has read last."""
        self._width = 0
        """Of those, the most."""
        self._even = False
        """Whether each row has read as many."""

    def read(self, texts: Sequence[Sequence[int]], last_only: bool = False) -> torch.Tensor:
        """Read at least one token of each row; the logits after each, shape (rows, most tokens, vocabulary).

        With `last_only` the logits after the last token of each row, shape (rows, 1, vocabulary).
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

    def spread(self, rows: int) -> None:
        """Let a single row be the beginning of many."""
        self.keep([0] * rows, [0] * rows)

    def keep(self, rows: Sequence[int], wrong: Sequence[int]) -> None:
        """Go on with these rows, but not with so many of the tokens that each has read last."""
        if self._even and not any(wrong) and list(rows) == list(range(len(self._mask))):
            # Nothing moves. Long answers would otherwise have all they hold copied for each token.
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
        """What the output embeddings get to see: the state of each row's last token."""
        (states,) = args
        last = (self._given - 1).to(states.device)
        return (states[torch.arange(len(states), device=states.device), last][:, None],)


def _moved(states: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some rows of (rows, heads, tokens, size), each with its own choice of tokens, (rows, tokens)."""
    _, heads, tokens, size = states.shape
    chosen = (rows[:, None] * tokens + places).flatten().to(states.device)
    # As a table with a line a token: several times faster than indexing in place.
    table = states.transpose(1, 2).reshape(-1, heads * size)
    return table.index_select(0, chosen).view(*places.shape, heads, size).transpose(1, 2)
