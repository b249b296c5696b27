"""Writes tensors into their slots of safetensors files, and checks the digest of each."""

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
from dapa_exp.models.tensors import all_finite, tensor_digest
from dapa_exp.transplant.export.layout import Slot

CHUNK_BYTES = 1 << 20
"""Bytes that one system call reads or writes."""


class Changed(Protocol):
    """A source of the tensors in which the hybrid differs from the student."""

    @property
    def changed(self) -> Collection[str]: ...

    def read(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class Expected:
    """The digests that exported tensors must have.

    `dtype` is the dtype in which the digests were taken; None means each tensor's own.
    """

    digests: Mapping[str, str]
    dtype: torch.dtype | None
    taken: str
    """Who took the digests, as the end of the sentence "is not the tensor that …"."""

    def check(self, name: str, tensor: torch.Tensor) -> str:
        """The digest of `tensor` in its own dtype. Raises DapaError if it is not the expected tensor.

        A tensor with the expected digest is finite, because no run transplants NaN or infinity. So only a tensor with
        another digest is searched for them, to give a better error message.
        """
        own = tensor_digest(tensor)
        then = own if self.dtype in (None, tensor.dtype) else tensor_digest(tensor.to(self.dtype))
        if then != self.digests.get(name):
            if tensor.is_floating_point() and tensor.numel() and not all_finite(tensor):
                raise DapaError(f"{name}: holds NaN or infinity, so the model is broken and is not exported")
            raise DapaError(f"{name}: is not the tensor that {self.taken} (another digest)")
        return own


def fill(slots: Mapping[str, Slot], tensors: Changed, expected: Expected) -> dict[str, str]:
    """Write every changed tensor into its slot of an existing file. Returns the tensors' digests by name.

    Hashing takes as long as writing, so both happen at the same time. Therefore a tensor that is not the expected one
    is already written when DapaError is raised; the caller must discard the file.
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
    """Copy `source` to `target`, except the bytes of the slots in `holes`, which become zeros."""
    size = source.stat().st_size
    ends = [0, *(slot.end for slot in sorted(holes, key=lambda slot: slot.start))]
    starts = [*(slot.start for slot in sorted(holes, key=lambda slot: slot.start)), size]
    with source.open("rb") as reader, target.open("wb") as writer:
        os.ftruncate(writer.fileno(), size)
        for first, last in zip(ends, starts, strict=True):
            _copy_bytes(reader.fileno(), writer.fileno(), first, last)


def _copy_bytes(reader: int, writer: int, first: int, last: int) -> None:
    """Copy bytes `first` to `last` in the kernel if possible. Some file systems then share the blocks of both files."""
    try:
        while first < last and (copied := os.copy_file_range(reader, writer, last - first, first, first)):
            first += copied
    except (AttributeError, OSError):
        pass  # the kernel cannot copy here, so the loop below does; it raises again if the disk is at fault
    while first < last:
        if not (chunk := os.pread(reader, min(CHUNK_BYTES, last - first), first)):
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        first += os.pwrite(writer, chunk, first)


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
