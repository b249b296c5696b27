"""Reads a checkpoint's tensors one by one. Names, shapes and sizes are known before any tensor is read."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from blake3 import blake3
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.models.architecture import WHOLE, Part

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes of weights that are not quantised."""
OTHERS = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Further dtypes in checkpoints, such as those of buffers."""
WEIGHTS = "model.safetensors"
UNPICKLE = "pair.student.allow_pickle=true reads a student's all the same, and runs no code in them"
INDEX = "model.safetensors.index.json"

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DERIVED = ".rotary_emb.inv_freq"  # no weight: old Llama checkpoints store it, and every loader computes it anew


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's entry in the header of a checkpoint. `dtype` is safetensors' name, such as `F32`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    file: Path
    start: int
    """The offset of its first byte in the file."""


class TensorReader:
    """The tensors of a checkpoint folder, one file or sharded. Reads headers only until asked for more."""

    def __init__(self, folder: Path) -> None:
        """Raises DapaError if the folder has no safetensors, a shard is missing, or a file is truncated."""
        self.tensors = {info.name: info for info in _stored(folder) if not info.name.endswith(_DERIVED)}

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    @property
    def parameters(self) -> int:
        """The number of entries of all tensors."""
        return sum(prod(info.shape) for info in self.tensors.values())

    def read(self, what: str | Part) -> torch.Tensor:
        """A tensor by its name, or a part of one, on the CPU, in the checkpoint's dtype.

        Only its bytes are mapped, as long as the tensor is in use. Writing to it does not change the file. safetensors'
        `safe_open` does not fit here, because a search reads the same tensors again and again: it parses the whole
        header each time, or, if it is kept open, keeps every page that was ever mapped.
        """
        part = Part(what) if isinstance(what, str) else what
        info = self.tensors[part.tensor]
        dtype = (FLOATS | OTHERS).get(info.dtype)
        if dtype is None:
            raise DapaError(f"{info.file}: tensor {part.tensor}: {info.dtype} is no type that torch has")
        shape, start, size = info.shape, info.start, info.bytes
        if part.share != WHOLE:
            rows = part.share.rows(shape[0])
            line = size // shape[0]
            start, size = start + rows.start * line, (rows.stop - rows.start) * line
            shape = (rows.stop - rows.start, *shape[1:])
        if not size:
            return torch.empty(shape, dtype=dtype)
        try:
            held = _mapped(info.file, start, size)
        except (OSError, ValueError) as error:  # the latter where the file has become shorter
            raise DapaError(f"{info.file}: tensor {part.tensor}: {error}") from error
        return held.view(dtype).reshape(shape)


def tensor_digest(tensor: torch.Tensor) -> str:
    """BLAKE3 over dtype, shape and bytes. It is about as fast as reading them; SHA-256 is slower."""
    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    digest = blake3(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor that has entries holds neither NaN nor infinity. One pass, without a copy."""
    low, high = tensor.aminmax()  # both are NaN if the tensor holds NaN
    return bool(low.isfinite() and high.isfinite())


def _mapped(file: Path, start: int, size: int) -> torch.Tensor:
    """Bytes of a file. They are read when they are first used, and copied when they are written to."""
    skipped = start % mmap.ALLOCATIONGRANULARITY
    with file.open("rb") as stream:
        held = mmap.mmap(stream.fileno(), skipped + size, access=mmap.ACCESS_COPY, offset=start - skipped)
    return torch.frombuffer(held, dtype=torch.uint8, count=size, offset=skipped)


def _stored(folder: Path) -> Iterator[TensorInfo]:
    """All tensors of a folder. Files that the index does not name are not part of the checkpoint."""
    if (folder / WEIGHTS).is_file():
        yield from _header(folder / WEIGHTS)
    elif (folder / INDEX).is_file():
        yield from _sharded(folder)
    else:
        remedy = f"; {UNPICKLE}" if any(folder.glob("pytorch_model*.bin")) else ""
        raise DapaError(f"{folder}: no {WEIGHTS} there, and no {INDEX} (pickled weights are not read{remedy})")


def _sharded(folder: Path) -> Iterator[TensorInfo]:
    try:
        index = json.loads((folder / INDEX).read_text())
        shard_of: dict[str, str] = index["weight_map"]
        shards = sorted(set(shard_of.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # the last two: lists for objects
        raise DapaError(f"{folder / INDEX}: not an index of shards: {error!r}") from error
    if "metadata" not in index:
        raise DapaError(
            f'{folder / INDEX}: lacks "metadata", without which transformers reads no shards; add an empty {{}}'
        )
    if lost := [shard for shard in shards if not (folder / shard).is_file()]:
        raise DapaError(f"{folder}: {len(lost)} of {len(shards)} shards are missing: {', '.join(lost)}")
    for shard in shards:
        headers = {info.name: info for info in _header(folder / shard)}
        for name in (name for name, within in shard_of.items() if within == shard):
            if name not in headers:
                raise DapaError(f"{folder / shard}: lacks the tensor {name} that {INDEX} looks for there")
        for name in headers:  # transformers would load it all the same, and of two tensors of one name either
            if shard_of.get(name) != shard and not name.endswith(_DERIVED):
                raise DapaError(f"{folder / shard}: holds the tensor {name} that {INDEX} does not look for there")
        yield from headers.values()


def _header(file: Path) -> Iterator[TensorInfo]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise DapaError(f"{file}: not a whole safetensors file ({size} bytes)")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            found = [
                TensorInfo(name, tuple(entry["shape"]), entry["dtype"], last - first, file, 8 + length + first)
                for name, entry in header.items()
                for first, last in [entry["data_offsets"]]
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DapaError(f"{file}: the safetensors header is damaged: {error!r}") from error
    end = max((info.start + info.bytes for info in found), default=8 + length)
    if end != size:
        raise DapaError(f"{file}: truncated: {end} bytes expected, {size} found")
    yield from found


def remembered_tensors(path: Path, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The tensors in a file. If there is no such file, they are computed and written. Raises DapaError if damaged."""
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            raise DapaError(f"{path}: damaged: {error}; delete it, and the same command computes it again") from error
    tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
    write_atomically(path, save(tensors))  # safetensors' own writing hides that a disk is full
    return tensors
