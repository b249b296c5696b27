"""Makes the transplant method that a config names."""

from __future__ import annotations

from typing import Any, cast

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import METHODS
from dapa_exp.config.schema import Model, Transplant
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.transplant.methods.contract import Method


def make_method(settings: Transplant, pair: Pair) -> Method:
    """The method of a run. All its settings except `base` are arguments of its class.

    Raises DapaError if the base model cannot be opened, or has other tensors than the student.
    """
    options: dict[str, Any] = settings.model_dump(exclude={"method", "base"})
    if hasattr(settings, "base"):
        options["base"] = pair.student if settings.base is None else _open_base(settings.base, pair)
    chosen = cast(type[Method], METHODS.get(settings.method))
    return chosen(pair, **options)


def _open_base(model: Model, pair: Pair) -> TensorReader:
    base = TensorReader(locate(model, weights=True))
    for name in (part.tensor for parts in pair.units.values() for part in parts):
        theirs, ours = base.tensors.get(name), pair.student.tensors[name]
        if theirs is None or theirs.shape != ours.shape:
            found = "no such tensor" if theirs is None else f"shape {list(theirs.shape)}, not {list(ours.shape)}"
            raise DapaError(f"base {model.id} does not fit the student: {name}: {found}")
    return base
