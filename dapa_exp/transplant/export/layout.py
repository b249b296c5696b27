"""Where the bytes of each tensor lie in a safetensors file, laid out for a new one."""

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
    """The place of one tensor in a file: its bytes are `start` to `end`."""

    file: Path
    start: int
    end: int


def header(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file with these tensors, one after the other."""
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
    """Where the tensors of a file with such a header lie."""
    slots = {}
    start = header_bytes
    for info in tensors:
        slots[info.name] = Slot(file, start, start + info.bytes)
        start += info.bytes
    return slots
