"""The position of each tensor's bytes in a safetensors file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dapa_exp.models.tensors import TensorInfo


@dataclass(frozen=True)
class Slot:
    """The position of one tensor in a file: its bytes are `start` to `end`, without `end`."""

    file: Path
    start: int
    end: int


def new_slots(file: Path, tensors: Iterable[TensorInfo], header_bytes: int) -> dict[str, Slot]:
    """The slot of each tensor, by name, in a file with `header_bytes` bytes before the first tensor."""
    slots = {}
    start = header_bytes
    for info in tensors:
        slots[info.name] = Slot(file, start, start + info.bytes)
        start += info.bytes
    return slots
