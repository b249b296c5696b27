"""Decoding in fixed shapes: a GPU records the kernels of one token as a CUDA graph, and then repeats the graph.

A decoding step of a 7B model has over a thousand kernels. Launching them one by one takes longer than computing them.
Every tensor of a recorded step keeps its place: the cache gets room for some tokens ahead, and the step moves its own
positions on. On a CPU the same step is carried out without a graph.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, StaticLayer

from dapa_exp.base.errors import DapaError

# In each pass these rotary embeddings, and the choice of experts, wait for a number from the GPU. A graph cannot do so.
_WAITING_ROPES = ("dynamic", "longrope")
_EXPERTS = ("num_local_experts", "num_experts")


def can_decode_in_fixed_shapes(model: PreTrainedModel, tokens: int) -> bool:
    """Whether a model can decode rows of this many tokens in fixed shapes.

    It must be on one device, and its window of attention must hold all tokens.
    """
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    waits = rope in _WAITING_ROPES or any(getattr(config, name, None) for name in _EXPERTS)
    return not spread and not waits and (not window or tokens <= window)


class FixedSteps:
    """The next tokens of some rows, up to `room` of them."""

    def __init__(
        self,
        model: PreTrainedModel,
        layers: list[Any],
        mask: torch.Tensor,
        lengths: torch.Tensor,
        last: list[int],
        room: int,
    ) -> None:
        """`layers` hold keys and values, shape (rows, heads, columns, size); they are replaced one by one.

        `mask` says which columns are tokens, shape (rows, columns); `lengths` how many each row has. `last` is each
        row's last token, which it has not read yet.
        """
        device, (rows, columns) = mask.device, mask.shape
        for i, layer in enumerate(layers):
            layers[i] = _with_room(layer, columns, room)
        self._model, self._cache = model, Cache(layers=layers)
        ahead = torch.zeros((rows, room), dtype=torch.bool, device=device)
        visible = torch.cat([mask, ahead], dim=1)[:, None, None]
        self._mask = torch.where(visible, 0.0, torch.finfo(model.dtype).min).to(model.dtype)
        self._column = torch.tensor([columns], device=device)
        self._positions = lengths[:, None].clone()
        self._token = torch.tensor(last, device=device)[:, None]
        self._said = torch.zeros((rows, room), dtype=torch.long, device=device)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self.done = 0
        """How many tokens each row has got so far."""

    def next(self, count: int) -> list[list[int]]:
        """The next `count` tokens of each row. Raises DapaError if the model computes NaN or infinite logits."""
        for _ in range(count):
            self._take_step()
        said: list[list[int]] = self._said[:, self.done : self.done + count].tolist()
        self.done += count
        if not self._finite:
            raise DapaError(f"{self._model.name_or_path}: computes NaN or infinite logits in {self._model.dtype}")
        return said

    def _take_step(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        self._step_once()
        if self._token.is_cuda:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # records, and computes nothing
                self._step_once()
            self._graph = graph

    def _step_once(self) -> None:
        """Read the last token of each row, and find the next. All state is changed in place."""
        self._mask.index_fill_(3, self._column, 0.0)
        output: Any = self._model(
            input_ids=self._token,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits = output.logits[:, -1]
        self._finite.logical_and_(logits.isfinite().all())
        self._token.copy_(logits.argmax(-1, keepdim=True))
        self._said.index_copy_(1, self._step, self._token)
        for counter in (self._positions, self._column, self._step):
            counter.add_(1)


def _with_room(layer: Any, columns: int, room: int) -> StaticLayer:
    """A layer's keys and values, with empty columns for the tokens to come."""
    fixed: Any = StaticLayer(columns + room)
    fixed.lazy_initialization(layer.keys, layer.values)
    fixed.keys[:, :, :columns] = layer.keys[:, :, :columns]
    fixed.values[:, :, :columns] = layer.values[:, :, :columns]
    fixed.cumulative_length.fill_(columns)
    return cast(StaticLayer, fixed)
