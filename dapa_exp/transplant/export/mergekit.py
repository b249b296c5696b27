"""Exports the hybrid as a mergekit recipe. mergekit then makes the same tensors, up to the sign of zeros.

Layers that come whole from one model are passed through. In a layer that is transplanted in part, each tensor is a
linear mix with weights of exactly 0 and 1. That gives the same values, except that the sum turns -0.0 into 0.0.

The first and the last slice have no layers. They make mergekit take the embeddings, the last norm and the head from
the student alone, so the teacher may have another vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError
from dapa_exp.config.models import Model
from dapa_exp.models.architecture import architecture, layer_of
from dapa_exp.models.hub import named
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import FLOATS
from dapa_exp.transplant.export.finished import FinishedRun
from dapa_exp.transplant.export.place import new_output


@dataclass(frozen=True)
class _Layers:
    """Neighbouring layers of one kind: all untouched, all transplanted in part, or all transplanted whole."""

    first: int
    end: int
    moved: tuple[str, ...]
    whole: bool


def write_recipe(out: Path, run: FinishedRun) -> None:
    """Write the YAML file. Raises DapaError if mergekit cannot do the run's transplant bit for bit."""
    if run.config.transplant.method != "copy":
        raise DapaError(
            f"mergekit cannot do transplant={run.config.transplant.method} bit for bit;"
            " export a patch or a checkpoint instead"
        )
    for unit in run.record.search.units_found:
        if layer_of(unit) < 0:
            raise DapaError(f"{unit}: this recipe moves layers only; export a patch or a checkpoint instead")
    for name in _torn(run.pair, run.record.search.units_found):
        raise DapaError(f"{name}: mergekit cannot move a share of a tensor's rows; export a patch or a checkpoint")
    student = _reference(run.config.pair.student, run.pair.student_folder)
    teacher = _reference(run.config.family.teacher, run.pair.teacher_folder)
    recipe = _recipe(run.pair, run.record.search.units_found, student, teacher)
    if run.chat_template is not None:
        recipe["chat_template"] = run.chat_template
    with new_output(out, 1 << 20) as part:
        title = f"# The hybrid of run {run.record.identity}: mergekit-yaml {out.name} OUT\n"
        part.write_text(title + yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def _reference(model: Model, found: Path) -> str:
    """How the recipe names a model: the hub id and revision, or the folder of a local or converted model."""
    if not model.folder and not found.is_relative_to(cache_root()):
        return named(model.id, model.revision)
    folder = str(found.resolve())
    if "@" in folder or "+" in folder:
        raise DapaError(f"{folder}: mergekit cannot read a path with '@' or '+'; move the model")
    return folder


def _torn(pair: Pair, chosen: list[str]) -> list[str]:
    """Names of tensors of which only some rows move, for example if gate and up are stored as one tensor."""
    moved: defaultdict[str, Fraction] = defaultdict(Fraction)
    for part in (part for unit in chosen for part in pair.units[unit]):
        moved[part.tensor] += Fraction(1, part.share.count)
    return [name for name, share in moved.items() if share != 1]


def _recipe(pair: Pair, chosen: list[str], student: str, teacher: str) -> dict[str, Any]:
    runs = list(_runs(pair, chosen))
    no_layers = [_Layers(0, 0, (), False)]
    recipe = {
        "merge_method": "passthrough" if all(run.whole or not run.moved for run in runs) else "linear",
        "base_model": student,
        "slices": [{"sources": _sources(run, student, teacher)} for run in [*no_layers, *runs, *no_layers]],
    }
    dtypes = {info.dtype for info in pair.student.tensors.values()}
    return recipe | {"dtype": str(FLOATS[dtypes.pop()]).removeprefix("torch.")} if len(dtypes) == 1 else recipe


def _sources(run: _Layers, student: str, teacher: str) -> list[dict[str, Any]]:
    def source(model: str, weight: Any) -> dict[str, Any]:
        return {"model": model, "layer_range": [run.first, run.end], "parameters": {"weight": weight}}

    def weights(moved: float, others: float) -> list[dict[str, Any]]:
        return [*({"filter": name, "value": moved} for name in run.moved), {"value": others}]

    if run.whole or not run.moved:
        return [source(teacher if run.whole else student, 1.0)]
    return [source(student, weights(0.0, 1.0)), source(teacher, weights(1.0, 0.0))]


def _runs(pair: Pair, chosen: list[str]) -> Iterator[_Layers]:
    layer_name = architecture(pair.model_type).layer
    moved: dict[int, list[str]] = {layer: [] for layer in range(pair.num_layers)}
    for unit in chosen:
        moved[layer_of(unit)] += dict.fromkeys(part.tensor for part in pair.units[unit])

    def kind(layer: int) -> tuple[bool, bool]:
        held = [name for name in pair.student if name.startswith(layer_name.format(layer=layer))]
        return bool(moved[layer]), len(moved[layer]) == len(held)

    for (_, whole), alike in groupby(range(pair.num_layers), kind):
        layers = list(alike)
        names = tuple(name for layer in layers for name in moved[layer])
        yield _Layers(layers[0], layers[-1] + 1, names, whole)
