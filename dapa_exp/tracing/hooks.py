"""Reading and replacing what modules put out, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Change = Callable[[torch.Tensor], torch.Tensor]
"""From the states a module puts out, shape (rows, tokens, hidden), to those that the rest of the model sees."""


@contextmanager
def changed(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Pass each module's states through its change while the block runs."""
    with ExitStack() as stack:
        for module, change in changes.items():
            stack.callback(module.register_forward_hook(_hook(change)).remove)
        yield


def _hook(change: Change) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        # Attention hands out its weights too.
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook
