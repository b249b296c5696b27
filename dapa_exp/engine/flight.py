"""Rows that are decoded together: what the model has read of each, and how that grows and is cut back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel


class Flight:
    """The keys and values of some rows, all of them ending in the same column, so that padding is on the left only.

    Rows that are done leave, and tokens that turn out not to be said are taken back, row by row: what is left moves
    to the right. So a row's neighbours in the cache are its neighbours in the text, as sliding windows need it.
    """

    def __init__(self, model: PreTrainedModel, mask: torch.Tensor) -> None:
        """`mask` is 1 where there is a token of a prompt and 0 on its left, shape (rows, tokens)."""
        self.cache = DynamicCache()  # not by the config: layers with a window would forget what they must give back
        self._model = model
        self._mask = mask.bool()
        self._lengths = mask.sum(-1)

    def read_prompts(self, ids: torch.Tensor) -> torch.Tensor:
        """Read all prompts; the logits after the last token of each, shape (rows, 1, vocabulary)."""
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        return self._forward(ids, self._mask, positions, logits_to_keep=1)

    def read(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read at least one token more of each row; the logits after each, shape (rows, most tokens, vocabulary)."""
        width = max(map(len, texts))
        device = self._mask.device
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
        ahead = torch.arange(width, device=device)
        given = ahead < torch.tensor([len(text) for text in texts], device=device)[:, None]
        self._mask = torch.cat([self._mask, given], dim=1)
        return self._forward(ids, self._mask, self._lengths[:, None] + ahead)

    def keep(self, rows: Sequence[int], said: Sequence[int], width: int) -> None:
        """Go on with these rows only, and of the `width` tokens each has read last with the first `said` of it."""
        if len(rows) == len(self._mask) and min(said) == width:
            self._lengths += width
            return
        device = self._mask.device
        chosen = torch.tensor(rows, device=device)
        taken_back = width - torch.tensor(said, device=device)
        self._lengths = self._lengths[chosen] + width - taken_back
        longest = int(self._lengths.max())
        ends = self._mask.shape[1] - taken_back
        column = torch.arange(longest, device=device)
        places = (ends[:, None] - longest + column).clamp(min=0)
        self._mask = column >= longest - self._lengths[:, None]
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.keys = _moved(layer.keys, chosen, places)
            layer.values = _moved(layer.values, chosen, places)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, **options: int) -> torch.Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = output.logits
        return logits


def _moved(states: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some rows of (rows, heads, tokens, size), each with its own choice of tokens, (rows, tokens)."""
    rows, places = rows.to(states.device), places.to(states.device)
    index = places[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states[rows].gather(2, index)
