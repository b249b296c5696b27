"""The header of a safetensors file, for files that are written tensor by tensor: safetensors wants all at once."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence

_ALIGNMENT = 8


def header(tensors: Iterable[tuple[str, str, Sequence[int], int]], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file with these tensors, in this order: the header's length and its JSON.

    A tensor is its name, its dtype by safetensors' name, its shape and its bytes.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, dtype, shape, size in tensors:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    body = json.dumps(entries, separators=(",", ":")).encode()
    body += b" " * (-len(body) % _ALIGNMENT)
    return struct.pack("<Q", len(body)) + body
