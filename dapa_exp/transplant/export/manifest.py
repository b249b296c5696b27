"""The manifest of an exported model: in the header of a patch, or as `dapa.json` in a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dapa_exp.base.digests import file_digest
from dapa_exp.models.tensors import TensorReader
from dapa_exp.record.schema import Record

MANIFEST = "dapa.json"


class Manifest(BaseModel):
    """Where an exported model comes from, which tensors were changed, and what was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    student_files: dict[str, str] = Field(description="SHA-256 of the student's config.json and weight files, by name")
    tensors: dict[str, str] = Field(description="BLAKE3 of each changed tensor, over dtype, shape and bytes")
    transplant: dict[str, Any] = Field(description="the method and its settings")
    chat_template: str | None = Field(description="the teacher's, where the model was measured with it")
    record: Record


def exported_identity(model: Path) -> str | None:
    """The identity of the run that an exported checkpoint is of; None where the folder is none."""
    file = model / MANIFEST
    return Manifest.model_validate_json(file.read_bytes()).record.identity if file.is_file() else None


def weight_digests(folder: Path, tensors: TensorReader) -> dict[str, str]:
    """SHA-256, by file name, of a checkpoint's config.json and weight files."""
    files = {folder / "config.json", *(info.file for info in tensors.tensors.values())}
    return {str(file.relative_to(folder)): file_digest(file) for file in sorted(files)}
