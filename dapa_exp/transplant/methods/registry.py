"""Makes the transplant method that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Model, Transplant
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Blend, Copy, TaskVector
from dapa_exp.transplant.methods.neurons import SwapNeurons
from dapa_exp.transplant.methods.subspace import SafeLora, SafeMerge

METHODS: dict[str, Callable[..., Method]] = {
    "copy": Copy,
    "blend": Blend,
    "task_vector": TaskVector,
    "safe_lora": SafeLora,
    "safe_merge": SafeMerge,
    "swap_neurons": SwapNeurons,
}


def make_method(settings: Transplant, pair: Pair) -> Method:
    """The method of a run. All its settings except `base` are arguments of its class.

    Raises DapaError if the base model cannot be opened, or has other tensors than the student.
    """
    options: dict[str, Any] = settings.model_dump(exclude={"method", "base"})
    if hasattr(settings, "base"):
        options["base"] = pair.student if settings.base is None else _open_base(settings.base, pair)
    return METHODS[settings.method](pair, **options)


def _open_base(model: Model, pair: Pair) -> TensorReader:
    base = TensorReader(locate(model, weights=True))
    for name in (part.tensor for parts in pair.units.values() for part in parts):
        theirs, ours = base.tensors.get(name), pair.student.tensors[name]
        if theirs is None or theirs.shape != ours.shape:
            found = "no such tensor" if theirs is None else f"shape {list(theirs.shape)}, not {list(ours.shape)}"
            raise DapaError(f"base {model.id} does not fit the student: {name}: {found}")
    return base
