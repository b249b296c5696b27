"""Writes tensors into their places in files, each one checked on its way."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.models.tensors import tensor_digest
from dapa_exp.transplant.export.layout import Slot

CHUNK_BYTES = 1 << 20
"""Written in one call."""


class Changed(Protocol):
    """The tensors that make the aligned model out of the student."""

    @property
    def changed(self) -> Collection[str]: ...

    def read(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class Expected:
    """What tensors must be: their digests, taken when they were of `dtype` (None: of their own)."""

    digests: Mapping[str, str]
    dtype: torch.dtype | None
    taken: str
    """By what, as the end of a sentence."""

    def check(self, name: str, tensor: torch.Tensor) -> str:
        """The tensor's own digest. Raises DapaError where the tensor is another one, or has NaN or infinity.

        The latter is looked for in another one only: no run transplants what is not finite.
        """
        own = tensor_digest(tensor)
        then = own if self.dtype in (None, tensor.dtype) else tensor_digest(tensor.to(self.dtype))
        if then != self.digests.get(name):
            if tensor.is_floating_point() and tensor.numel() and not _finite(tensor):
                raise DapaError(f"{name}: holds NaN or infinity, so the model is broken and is not exported")
            raise DapaError(f"{name}: is not the tensor that {self.taken} (another digest)")
        return own


def fill(slots: Mapping[str, Slot], tensors: Changed, expected: Expected) -> dict[str, str]:
    """Write every changed tensor into its slot; the files are there already. Returns the digests of the tensors.

    Each is hashed while it is written, which takes as long. Raises DapaError where a tensor is not the expected one:
    it is in its slot by then.
    """
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(1) as beside:
        for name in sorted(tensors.changed, key=lambda name: (slots[name].file, slots[name].start)):
            tensor = tensors.read(name)
            digest = beside.submit(expected.check, name, tensor)
            _write(name, tensor, slots[name])
            digests[name] = digest.result()
    return digests


def copy_around(source: Path, target: Path, holes: Collection[Slot]) -> None:
    """Make `target` a copy of `source`, all bytes but those of the holes."""
    size = source.stat().st_size
    ends = [0, *(slot.end for slot in sorted(holes, key=lambda slot: slot.start))]
    starts = [*(slot.start for slot in sorted(holes, key=lambda slot: slot.start)), size]
    with source.open("rb") as reader, target.open("wb") as writer:
        os.ftruncate(writer.fileno(), size)
        for first, last in zip(ends, starts, strict=True):
            _copy_bytes(reader.fileno(), writer.fileno(), first, last)


def _copy_bytes(reader: int, writer: int, first: int, last: int) -> None:
    """Copy in the kernel where it can, which also shares blocks on file systems that do."""
    try:
        while first < last and (copied := os.copy_file_range(reader, writer, last - first, first, first)):
            first += copied
    except (AttributeError, OSError):
        pass  # not on this system or between these file systems; what is wrong with the disk shows again below
    while first < last:
        if not (chunk := os.pread(reader, min(CHUNK_BYTES, last - first), first)):
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        first += os.pwrite(writer, chunk, first)


def _finite(tensor: torch.Tensor) -> bool:
    low, high = tensor.aminmax()  # NaN goes through to both
    return bool(low.isfinite() and high.isfinite())


def _write(name: str, tensor: torch.Tensor, slot: Slot) -> None:
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    if len(content) != slot.end - slot.start:
        raise DapaError(f"{name}: {len(content)} bytes do not fit the student's {slot.end - slot.start}")
    file = os.open(slot.file, os.O_WRONLY)
    try:
        first = 0
        while first < len(content):
            first += os.pwrite(file, content[first : first + CHUNK_BYTES], slot.start + first)
    finally:
        os.close(file)
