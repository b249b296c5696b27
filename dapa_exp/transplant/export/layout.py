"""The header of a new safetensors file, and the position of each tensor's bytes in it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dapa_exp.models.tensors import TensorInfo

_ALIGNMENT = 8


@dataclass(frozen=True)
class Slot:
    """The position of one tensor in a file: its bytes are `start` to `end`, without `end`."""

    file: Path
    start: int
    end: int


def header(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a safetensors file with these tensors, in this order: the header's length and its JSON."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for info in tensors:
        entries[info.name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [start, start + info.bytes],
        }
        start += info.bytes
    body = json.dumps(entries, separators=(",", ":")).encode()
    body += b" " * (-len(body) % _ALIGNMENT)
    return struct.pack("<Q", len(body)) + body


def new_slots(file: Path, tensors: Iterable[TensorInfo], header_bytes: int) -> dict[str, Slot]:
    """The slot of each tensor, by name, in a file with `header_bytes` bytes before the first tensor."""
    slots = {}
    start = header_bytes
    for info in tensors:
        slots[info.name] = Slot(file, start, start + info.bytes)
        start += info.bytes
    return slots
