"""Makes the transplant method that a config names."""

from __future__ import annotations

from typing import Any, cast

from dapa_exp.base.errors import DapaError
from dapa_exp.config.models import Model
from dapa_exp.config.registries import DESCENDS, METHODS
from dapa_exp.config.transplant import Transplant
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.kinship import alignment_share
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.transplant.methods.contract import Method


def make_method(settings: Transplant, pair: Pair) -> Method:
    """The method of a run. All its settings except `base` and `any_student` are arguments of its class.

    Raises DapaError if the base model cannot be opened, has other tensors than the student, or if the method is not
    made for such a student.
    """
    options: dict[str, Any] = settings.model_dump(exclude={"method", "base", "any_student"})
    if hasattr(settings, "base"):
        options["base"] = pair.student if settings.base is None else _open_base(settings.base, pair)
    if problem := misused(settings, student_share(settings, pair)):
        raise DapaError(problem)
    chosen = cast(type[Method], METHODS.get(settings.method))
    return chosen(pair, **options)


def student_share(settings: Transplant, pair: Pair) -> float | None:
    """How much of the teacher's alignment the student has; None for methods that take any student."""
    if not settings.of_teacher:
        return None
    return alignment_share(pair.teacher, pair.student, _open_base(cast(Any, settings).base, pair))


def misused(settings: Transplant, share: float | None) -> str | None:
    """Why a method is not made for a student with such a share of the teacher's alignment; None if it is."""
    if share is None or share >= DESCENDS or cast(Any, settings).any_student:
        return None
    return (
        f"transplant={settings.method} is made for a student that was tuned from the teacher; this student has"
        f" {100 * share:.0f} % of what the teacher learnt since its base, so it was tuned from the base, and the method"
        " would leave alone the matrices that carry the alignment; transplant.any_student=true goes on all the same"
    )


def _open_base(model: Model, pair: Pair) -> TensorReader:
    base = TensorReader(locate(model, weights=True))
    for name in (part.tensor for parts in pair.units.values() for part in parts):
        theirs, ours = base.tensors.get(name), pair.student.tensors[name]
        if theirs is None or theirs.shape != ours.shape:
            found = "no such tensor" if theirs is None else f"shape {list(theirs.shape)}, not {list(ours.shape)}"
            raise DapaError(f"base {model.id} does not fit the student: {name}: {found}")
    return base
