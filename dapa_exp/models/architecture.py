"""Where layers and projections live, by `config.model_type`. A new architecture is a row and a test.

Two things differ. A checkpoint may store two projections as one tensor, so that a unit holds a share of its rows.
And a loaded model may keep under another name, or many in one parameter, what the checkpoint stores one by one, such as
the experts of a mixture. Everything else works with names of the checkpoint and with the parts of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import permutations
from typing import TYPE_CHECKING

from dapa_exp.base.errors import DapaError, nearest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, order=True)
class RowShare:
    """One of `count` equal runs of a tensor's rows, its first dimension."""

    index: int
    count: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of these rows."""
        return tensor if self == WHOLE else tensor[self.rows(len(tensor))]

    def rows(self, total: int) -> slice:
        """Where these rows lie among `total`."""
        size = total // self.count
        return slice(self.index * size, (self.index + 1) * size)


WHOLE = RowShare(0, 1)
FIRST_HALF = RowShare(0, 2)
SECOND_HALF = RowShare(1, 2)


@dataclass(frozen=True)
class Part:
    """What a unit moves: a tensor, by its name in the checkpoint, or a share of its rows."""

    tensor: str
    share: RowShare = WHOLE

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of the part in the tensor, or in anything of its shape, such as its gradient."""
        return self.share.of(tensor)

    def __str__(self) -> str:
        return self.tensor + (f" (rows {self.share.index + 1}/{self.share.count})" if self.share != WHOLE else "")

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The part's shape, from that of its tensor."""
        return (whole[0] // self.share.count, *whole[1:]) if self.share != WHOLE else whole


@dataclass(frozen=True)
class ParameterSlice:
    """Where a loaded model keeps a tensor of its checkpoint: a parameter, or what one expert has of it."""

    parameter: str
    expert: int | None = None
    share: RowShare = WHOLE

    def of(self, parameter: torch.Tensor) -> torch.Tensor:
        """A view of the tensor in the parameter, or in its gradient, with the shape that the checkpoint gives it."""
        return self.share.of(parameter if self.expert is None else parameter[self.expert])


Units = dict[str, tuple[Part, ...]]
"""Unit name, such as `layers.3.mlp`, to what it moves."""


@dataclass(frozen=True)
class ModuleTensors:
    """What a module of a layer holds: tensors of the checkpoint whose names match, `*` standing for anything."""

    tensors: str
    share: RowShare = WHOLE

    def holds(self, part: Part, layer: str) -> bool:
        """Whether a part is among these; `layer` is what the names of the layer's tensors start with."""
        return fnmatchcase(part.tensor.removeprefix(layer), self.tensors) and self.share in (WHOLE, part.share)


@dataclass(frozen=True)
class RenamedTensors:
    """Tensors that a loaded model keeps elsewhere: ends of names, with `{expert}` for the number of an expert."""

    tensor: str
    parameter: str
    share: RowShare = WHOLE

    def parameter_of(self, name: str) -> ParameterSlice | None:
        """Where the tensor of a name is kept, if it is one of these."""
        pattern = "(?P<before>.+)" + re.escape(self.tensor).replace(r"\{expert\}", r"(?P<expert>\d+)")
        if not (match := re.fullmatch(pattern, name)):
            return None
        expert = match.groupdict().get("expert")
        return ParameterSlice(match["before"] + self.parameter, None if expert is None else int(expert), self.share)


@dataclass(frozen=True)
class Architecture:
    """A row of the table. `modules` and `submodules` are relative to `layer`, which holds `{layer}`."""

    modules: Mapping[str, ModuleTensors]
    renamed: tuple[RenamedTensors, ...] = ()
    """Where checkpoint and loaded model differ."""
    layer: str = "model.layers.{layer}."
    submodules: Mapping[str, str] = field(default_factory=lambda: {"layer": "", "mlp": "mlp", "attention": "self_attn"})
    """What a loaded model calls its own modules."""
    activation: str = "hidden_act"
    """What the config calls the MLP's activation; where there is the other name too, nothing reads it."""

    def parameter_of(self, tensor: str) -> ParameterSlice:
        """Where a loaded model keeps a tensor of the checkpoint."""
        return next((found for row in self.renamed if (found := row.parameter_of(tensor))), ParameterSlice(tensor))

    def submodule(self, layer: int, module: str) -> str:
        """The name, in a loaded model, of a whole layer or of its `mlp` or `attention`."""
        return (self.layer.format(layer=layer) + self.submodules[module]).rstrip(".")


_LLAMA_LIKE = Architecture(
    modules={
        "layer": ModuleTensors("*"),
        "mlp": ModuleTensors("mlp.*"),
        "attention": ModuleTensors("self_attn.*"),
        "gate_proj": ModuleTensors("mlp.gate_proj.*"),
        "up_proj": ModuleTensors("mlp.up_proj.*"),
        "down_proj": ModuleTensors("mlp.down_proj.*"),
    },
)

_GEMMA2 = replace(_LLAMA_LIKE, activation="hidden_activation")

_PHI3 = Architecture(
    modules={
        **_LLAMA_LIKE.modules,
        "gate_proj": ModuleTensors("mlp.gate_up_proj.*", FIRST_HALF),
        "up_proj": ModuleTensors("mlp.gate_up_proj.*", SECOND_HALF),
    },
)

_MIXTRAL = Architecture(
    modules={
        "layer": ModuleTensors("*"),
        "mlp": ModuleTensors("block_sparse_moe.*"),
        "attention": ModuleTensors("self_attn.*"),
        "router": ModuleTensors("block_sparse_moe.gate.*"),
        "gate_proj": ModuleTensors("block_sparse_moe.experts.*.w1.*"),
        "up_proj": ModuleTensors("block_sparse_moe.experts.*.w3.*"),
        "down_proj": ModuleTensors("block_sparse_moe.experts.*.w2.*"),
    },
    renamed=(
        RenamedTensors(".block_sparse_moe.gate.weight", ".mlp.gate.weight"),
        RenamedTensors(".block_sparse_moe.experts.{expert}.w1.weight", ".mlp.experts.gate_up_proj", FIRST_HALF),
        RenamedTensors(".block_sparse_moe.experts.{expert}.w3.weight", ".mlp.experts.gate_up_proj", SECOND_HALF),
        RenamedTensors(".block_sparse_moe.experts.{expert}.w2.weight", ".mlp.experts.down_proj"),
    ),
)

_QWEN3_MOE = Architecture(
    modules={
        **_LLAMA_LIKE.modules,
        "router": ModuleTensors("mlp.gate.*"),
        # With experts or, in the layers that have none, without.
        "gate_proj": ModuleTensors("mlp.*gate_proj.*"),
        "up_proj": ModuleTensors("mlp.*up_proj.*"),
        "down_proj": ModuleTensors("mlp.*down_proj.*"),
    },
    renamed=(
        RenamedTensors(".mlp.experts.{expert}.gate_proj.weight", ".mlp.experts.gate_up_proj", FIRST_HALF),
        RenamedTensors(".mlp.experts.{expert}.up_proj.weight", ".mlp.experts.gate_up_proj", SECOND_HALF),
        RenamedTensors(".mlp.experts.{expert}.down_proj.weight", ".mlp.experts.down_proj"),
    ),
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "gemma": _LLAMA_LIKE,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "phi3": _PHI3,
    "mixtral": _MIXTRAL,
    "qwen3_moe": _QWEN3_MOE,
}

_UNIT_NAMES = {
    "layer": "layers.{layer}",
    "mlp": "layers.{layer}.mlp",
    "attention": "layers.{layer}.attention",
    "router": "layers.{layer}.mlp.router",
    "gate_proj": "layers.{layer}.mlp.gate_proj",
    "up_proj": "layers.{layer}.mlp.up_proj",
    "down_proj": "layers.{layer}.mlp.down_proj",
}
"""One name a unit in all architectures; the dots say what lies within what."""


def architecture(model_type: str) -> Architecture:
    """The row for a model type. Raises DapaError saying how to add one."""
    if model_type not in ARCHITECTURES:
        raise DapaError(
            f"model_type '{model_type}' is not known;{nearest(model_type, ARCHITECTURES)} known:"
            f" {', '.join(ARCHITECTURES)}. A new one is a row in dapa_exp/models/architecture.py that names its"
            " modules as the checkpoint does, and a line in tests/tiny.py that has it tested"
        )
    return ARCHITECTURES[model_type]


def units(model_type: str, num_layers: int, modules: Sequence[str], tensors: Iterable[str]) -> Units:
    """The units of a model: each module of each layer, in layer order, with the parts of tensors that it holds.

    Raises DapaError where the architecture has no such module, where one lies within another, and where a module of
    a layer holds no tensor of the checkpoint.
    """
    row = architecture(model_type)
    _refuse_modules(model_type, modules)
    names = list(tensors)
    found: Units = {}
    for layer in range(num_layers):
        prefix = row.layer.format(layer=layer)
        within = [part for name in names if name.startswith(prefix) for part in _parts(row, prefix, name)]
        for module in modules:
            held = row.modules[module]
            parts = tuple(part for part in within if held.holds(part, prefix))
            if not parts:
                raise DapaError(f"the checkpoint has no tensor '{prefix}{held.tensors}' ({module} of layer {layer})")
            found[_UNIT_NAMES[module].format(layer=layer)] = parts
    return found


def _parts(row: Architecture, prefix: str, name: str) -> list[Part]:
    """What a tensor is made of: the shares that modules hold of it, or itself. Larger modules hold all of these."""
    within = name.removeprefix(prefix)
    shares = {held.share for held in row.modules.values() if fnmatchcase(within, held.tensors)} - {WHOLE}
    return [Part(name, share) for share in sorted(shares) or [WHOLE]]


def layer_of(unit: str) -> int:
    """The layer that a unit belongs to."""
    return int(unit.split(".")[1])


def scaled_layers(first: int, last: int, of: int, num_layers: int) -> range:
    """A range of layers (0-based, both ends in) of an `of`-layer model: its place and share in `num_layers`."""
    count = max(1, round((last + 1 - first) * num_layers / of))
    start = min(round(first * num_layers / of), num_layers - count)
    return range(start, start + count)


def _refuse_modules(model_type: str, modules: Sequence[str]) -> None:
    if unknown := [module for module in modules if module not in ARCHITECTURES[model_type].modules]:
        raise DapaError(f"granularity.modules: the layers of {model_type} have no {' and no '.join(unknown)}")
    for outer, inner in permutations(modules, 2):
        if _UNIT_NAMES[inner].startswith(_UNIT_NAMES[outer] + "."):
            raise DapaError(f"granularity.modules: {inner} lies within {outer}, so units would share tensors")
