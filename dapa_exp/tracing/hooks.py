"""Hooks that read or replace the outputs of modules while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Change = Callable[[torch.Tensor], torch.Tensor]
"""Maps a module's output, shape (rows, tokens, hidden), to the output that the rest of the model gets."""


@contextmanager
def replace_outputs(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Apply each module's change to its output while the block runs."""
    with ExitStack() as stack:
        for module, change in changes.items():
            stack.callback(module.register_forward_hook(_hook(change)).remove)
        yield


def _hook(change: Change) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        # Attention returns its weights too.
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook
