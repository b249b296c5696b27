"""Opens a finished run for export: its record, its pair and its hybrid's tensors. No model is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from dapa_exp.base.digests import folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Config
from dapa_exp.models.checkpoint import checkpoint_digest
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.models.templates import template_in
from dapa_exp.models.tensors import TensorReader
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.schema import Record
from dapa_exp.transplant.export.fill import Expected
from dapa_exp.transplant.make_method import make_method
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.methods.contract import Method


@dataclass(frozen=True)
class FinishedRun:
    """A finished run whose checkpoints are still those that it was measured on."""

    record: Record
    config: Config
    pair: Pair
    method: Method
    tensors: HybridTensors
    expected: Expected
    """The digests of the hybrid's tensors in memory, from `transplant.json`."""
    chat_template: str | None
    """The teacher's chat template, if the run used it for the student."""


def open_finished(folder: Path) -> FinishedRun:
    """Open a run's folder for export.

    Raises DapaError if the run is not finished, has found no units, or was measured on other checkpoints than those
    that are there now.
    """
    files = RunLayout(folder)
    config, record = files.read_config(), files.read_record()
    chosen = record.search.units_found
    if not chosen:
        raise DapaError(f"{folder}: the run found nothing to transplant ({record.search.status}); nothing to export")
    torch.set_num_threads(config.runtime.threads)
    pair = open_pair(config)
    _refuse_another("teacher", record.pair.teacher.digest, pair.teacher_folder, pair.teacher)
    _refuse_another("student", record.pair.student.digest, pair.student_folder, pair.student)
    method = make_method(config.transplant, pair)
    method.restore(folder)
    return FinishedRun(
        record,
        config,
        pair,
        method,
        HybridTensors(pair, chosen, method),
        _measured(files.proof, record, getattr(torch, config.runtime.dtype)),
        _chat_template(pair.teacher_folder) if pair.chat_template == "teacher" else None,
    )


def _refuse_another(role: str, digest: str | None, folder: Path, tensors: TensorReader) -> None:
    if digest is None or digest == checkpoint_digest(folder, tensors):
        return
    if digest != folder_digest(folder):  # older records hold the digest of the whole folder
        raise DapaError(f"{folder}: not the {role} that the run was measured on (another SHA-256)")


def _measured(file: Path, record: Record, dtype: torch.dtype) -> Expected:
    try:
        digests = json.loads(file.read_text(encoding="utf-8"))["transplanted"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DapaError(f"{file}: missing or damaged: {error}") from error
    listing = json.dumps(digests, sort_keys=True)
    if hashlib.sha256(listing.encode()).hexdigest() != record.transplant.digest:
        raise DapaError(f"{file}: was changed since the record was written (another SHA-256)")
    return Expected(digests, dtype, "the run measured")


def _chat_template(folder: Path) -> str | None:
    """A checkpoint's chat template. If it has several, the one that the run's prompts used."""
    template = template_in(folder)
    return template.text if template else None
