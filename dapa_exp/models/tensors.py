"""Tensors of a checkpoint, read one by one: names, shapes and bytes are known before any is read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dapa_exp.errors import DapaError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class TensorInfo:
    """What a checkpoint's header says of a tensor. `dtype` is in safetensors' words, such as `F32`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    file: Path


class TensorReader:
    """The tensors of a checkpoint folder, one file or sharded. Reads headers only until asked for more."""

    def __init__(self, folder: Path) -> None:
        """Raises DapaError where the folder has no safetensors or a file is truncated."""
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise DapaError(f"{folder}: no .safetensors file (pickled weights are not read)")
        self.tensors = {info.name: info for file in files for info in _header(file)}

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU, in the checkpoint's dtype."""
        info = self.tensors[name]
        try:
            with safe_open(info.file, framework="pt") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise DapaError(f"{info.file}: tensor {name}: {error}") from error


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 over dtype, shape and bytes."""
    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def _header(file: Path) -> Iterator[TensorInfo]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise DapaError(f"{file}: not a whole safetensors file ({size} bytes)")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise DapaError(f"{file}: the safetensors header is damaged: {error}") from error
    header.pop("__metadata__", None)
    end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise DapaError(f"{file}: truncated: {8 + length + end} bytes expected, {size} found")
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        yield TensorInfo(name, tuple(entry["shape"]), entry["dtype"], last - first, file)
