"""Exports the hybrid as a patch: one safetensors file with the changed tensors, and the manifest in its header."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dapa_exp.base.errors import DapaError
from dapa_exp.base.safetensors import header
from dapa_exp.models.tensors import TensorInfo, TensorReader
from dapa_exp.transplant.export.fill import Changed, Expected, fill
from dapa_exp.transplant.export.layout import new_slots
from dapa_exp.transplant.export.manifest import Manifest
from dapa_exp.transplant.export.place import new_output

_KEY = "dapa"
_SPARE_BYTES = 1 << 20
"""Bytes to keep free on the disk for the header."""


def write_patch(
    out: Path,
    student: TensorReader,
    tensors: Changed,
    expected: Expected,
    describe: Callable[[dict[str, str]], Manifest],
) -> None:
    """Write the patch file `out`. The header is written last, so an unfinished file is not a valid patch.

    `describe` makes the manifest from the digests of the written tensors. Raises DapaError, and leaves no file, if a
    tensor is not the expected one.
    """
    infos = [student.tensors[name] for name in sorted(tensors.changed)]
    blank = describe({info.name: "0" * 64 for info in infos})
    room = len(_header(infos, blank))
    with new_output(out, room + sum(info.bytes for info in infos) + _SPARE_BYTES) as part:
        part.touch()
        digests = fill(new_slots(part, infos, room), tensors, expected)
        with part.open("r+b") as stream:
            stream.write(_header(infos, describe(digests)))


class Patch:
    """An open patch file: its manifest, and its tensors, read one by one."""

    def __init__(self, file: Path) -> None:
        """Raises DapaError if the file is not a complete patch."""
        self._file = file
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                self.changed: Collection[str] = frozenset(opened.keys())
            self.manifest = Manifest.model_validate_json(metadata[_KEY])
        except KeyError as error:
            raise DapaError(f"{file}: an ordinary safetensors file, not a patch") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise DapaError(f"{file}: not a whole patch: {error}") from error
        if self.changed != self.manifest.tensors.keys():
            raise DapaError(f"{file}: holds other tensors than its manifest names")

    @property
    def expected(self) -> Expected:
        return Expected(self.manifest.tensors, None, "the patch was made with")

    def read(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU."""
        try:
            with safe_open(self._file, framework="pt") as opened:
                tensor: torch.Tensor = opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise DapaError(f"{self._file}: tensor {name}: {error}") from error
        return tensor


def _header(infos: list[TensorInfo], manifest: Manifest) -> bytes:
    tensors = ((info.name, info.dtype, info.shape, info.bytes) for info in infos)
    return header(tensors, {"format": "pt", _KEY: manifest.model_dump_json()})
