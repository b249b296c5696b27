"""Checks that a teacher and a student fit each other, from config.json and headers, before weights are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report, silent
from dapa_exp.config.schema import Config
from dapa_exp.models.architecture import Units, architecture, units
from dapa_exp.models.checkpoint import checkpoint_digest, locate, read_config
from dapa_exp.models.complete import read_whole
from dapa_exp.models.kinship import stored_differences
from dapa_exp.models.templates import template_in
from dapa_exp.models.tensors import FLOATS, TensorReader

MUST_AGREE = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_local_experts",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
)
MAY_DIFFER = (
    "vocab_size",
    "dtype",
    "rope_parameters",
    "rms_norm_eps",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "norm_topk_prob",
    "sliding_window",
    "layer_types",
    "tie_word_embeddings",
)
"""These keys do not affect the transplant, but a reader of the result should know that they differ."""


@dataclass(frozen=True)
class Pair:
    """A teacher and a student on disk that fit each other. No weight has been read."""

    teacher_folder: Path
    student_folder: Path
    teacher: TensorReader
    student: TensorReader
    model_type: str
    num_layers: int
    units: Units
    differences: tuple[str, ...]
    """Harmless differences between the two, such as `vocab_size: teacher 32000, student 55296`."""
    chat_template: Literal["own", "teacher"] = "own"
    """Whose chat template the student's prompts go through."""


def open_pair(config: Config, report: Report = silent) -> Pair:
    """Find both checkpoints of a run and check that they fit; what the hub has to send is reported.

    Raises DapaError naming every way in which they do not.
    """
    models = config.family.teacher, config.pair.student
    teacher_config, student_config = (read_config(locate(model, weights=False, report=report)) for model in models)
    _refuse(config, misfits(teacher_config, student_config))
    model_type = student_config["model_type"]
    if config.family.model_type not in (None, model_type):
        _refuse(config, [f"model_type: the family says {config.family.model_type}, the checkpoints {model_type}"])
    teacher_folder, student_folder = (locate(model, weights=True, report=report) for model in models)
    teacher, student = (read_whole(folder) for folder in (teacher_folder, student_folder))
    num_layers = student_config["num_hidden_layers"]
    every = dict.fromkeys([*student, *teacher])  # a tensor that only one of them has is named below
    found = units(model_type, num_layers, config.granularity.modules, every)
    _refuse(
        config, unlike_tensors(teacher, student, dict.fromkeys(p.tensor for parts in found.values() for p in parts))
    )
    differences = (
        *differing(teacher_config, student_config, MAY_DIFFER),
        *stored_differences((teacher_folder, student_folder), teacher, student),
    )
    template = chosen_template(config, template_in(student_folder) is not None)
    return Pair(teacher_folder, student_folder, teacher, student, model_type, num_layers, found, differences, template)


def checkpoint_digests(pair: Pair, others: Iterable[Pair] = ()) -> dict[str, str]:
    """SHA-256 of the teacher's checkpoint, the student's, and those of further students."""
    found = {"teacher": checkpoint_digest(pair.teacher_folder, pair.teacher)}
    for number, each in enumerate([pair, *others], 1):
        found["student" if number == 1 else f"student {number}"] = checkpoint_digest(each.student_folder, each.student)
    return found


def unit_parameters(pair: Pair) -> dict[str, int]:
    """The number of entries in each unit's tensors."""
    shapes = {name: info.shape for name, info in pair.student.tensors.items()}
    return {unit: sum(prod(part.shape(shapes[part.tensor])) for part in parts) for unit, parts in pair.units.items()}


def chosen_template(config: Config, student_has_one: bool) -> Literal["own", "teacher"]:
    """Whose chat template the student's prompts go through: what the config says, or else what is there."""
    if config.pair.chat_template == "found":
        return "own" if student_has_one else "teacher"
    return config.pair.chat_template


def misfits(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> list[str]:
    """Every way in which two configs describe models that cannot exchange layers."""
    activation = architecture(student["model_type"]).activation
    return list(differing(_with_head_dim(teacher), _with_head_dim(student), (*MUST_AGREE, activation)))


def _with_head_dim(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its head_dim. Without one, the hidden size is divided among the heads."""
    return {**config, "head_dim": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]}


def differing(teacher: Mapping[str, Any], student: Mapping[str, Any], keys: Iterable[str]) -> Iterable[str]:
    """`key: teacher x, student y` for each of the keys in which two configs differ."""
    for key in keys:
        if teacher.get(key) != student.get(key):
            yield f"{key}: teacher {teacher.get(key)}, student {student.get(key)}"


def unlike_tensors(teacher: TensorReader, student: TensorReader, names: Iterable[str]) -> list[str]:
    """Problems of tensors to be moved: only one model has it, the shapes differ, or it is quantised."""
    wrong = []
    for name in names:
        ours, theirs = student.tensors.get(name), teacher.tensors.get(name)
        if ours is None or theirs is None:
            wrong.append(f"{name}: the {'teacher' if theirs is None else 'student'} has no such tensor")
        elif theirs.shape != ours.shape:
            wrong.append(f"{name}: teacher {list(theirs.shape)}, student {list(ours.shape)}")
        elif quantised := {ours.dtype, theirs.dtype} - FLOATS.keys():
            wrong.append(f"{name}: quantised ({', '.join(quantised)}); only floating-point weights can be moved")
    return wrong


def _refuse(config: Config, wrong: list[str]) -> None:
    if wrong:
        names = f"teacher {config.family.teacher.id} and student {config.pair.student.id}"
        raise DapaError("\n".join([f"{config.pair.name}: {names} do not fit:", *(f"  {w}" for w in wrong)]))
