"""The names of layers and projections in checkpoints, by `config.model_type`. A new architecture is a row and a test.

Architectures differ in two ways. A checkpoint may store two projections as one tensor; then a unit is a share of its
rows. And a loaded model may store the checkpoint's tensors under other names, or several of them in one parameter, such
as the experts of a mixture. All other code works with the checkpoint's names, and with parts of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import permutations
from typing import TYPE_CHECKING

from dapa_exp.base.errors import DapaError, allowed_names

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, order=True)
class RowShare:
    """The rows of one of `count` equal blocks of a tensor. Rows are the first dimension."""

    index: int
    count: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of these rows."""
        return tensor if self == WHOLE else tensor[self.rows(len(tensor))]

    def rows(self, total: int) -> slice:
        """The slice of these rows in a tensor of `total` rows."""
        size = total // self.count
        return slice(self.index * size, (self.index + 1) * size)


WHOLE = RowShare(0, 1)
FIRST_HALF = RowShare(0, 2)
SECOND_HALF = RowShare(1, 2)


@dataclass(frozen=True)
class Part:
    """A tensor, by its name in the checkpoint, or a share of its rows. Units consist of parts."""

    tensor: str
    share: RowShare = WHOLE

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of the part in its tensor, or in another tensor of the same shape, such as a gradient."""
        return self.share.of(tensor)

    def __str__(self) -> str:
        return self.tensor + (f" (rows {self.share.index + 1}/{self.share.count})" if self.share != WHOLE else "")

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The part's shape, from that of its tensor."""
        return (whole[0] // self.share.count, *whole[1:]) if self.share != WHOLE else whole


@dataclass(frozen=True)
class ParameterSlice:
    """The place of a checkpoint's tensor in a loaded model: a parameter, or the slice of one expert in it."""

    parameter: str
    expert: int | None = None
    share: RowShare = WHOLE

    def of(self, parameter: torch.Tensor) -> torch.Tensor:
        """A view of the tensor in the parameter or in its gradient. It has the tensor's shape in the checkpoint."""
        return self.share.of(parameter if self.expert is None else parameter[self.expert])


Units = dict[str, tuple[Part, ...]]
"""The parts of each unit, by its name, such as `layers.3.mlp`."""


@dataclass(frozen=True)
class ModuleTensors:
    """The tensors of one module: those whose names in the checkpoint match a pattern with `*`, or one of several.

    `|` separates patterns. Names of a layer's tensors are without the layer's prefix.
    """

    tensors: str
    share: RowShare = WHOLE

    def match(self, name: str) -> bool:
        """Whether a tensor of this name, or a share of its rows, belongs to the module."""
        return any(fnmatchcase(name, pattern) for pattern in self.tensors.split("|"))

    def holds(self, part: Part, layer: str) -> bool:
        """Whether a part belongs to the module. `layer` is the prefix of the layer's tensor names."""
        return self.match(part.tensor.removeprefix(layer)) and self.share in (WHOLE, part.share)


@dataclass(frozen=True)
class RenamedTensors:
    """Tensors that a loaded model stores under other names. Both are endings of names; `{expert}` is a number."""

    tensor: str
    parameter: str
    share: RowShare = WHOLE

    def parameter_of(self, name: str) -> ParameterSlice | None:
        """The place of the tensor of this name in a loaded model. None if it is not one of these tensors."""
        pattern = "(?P<before>.+)" + re.escape(self.tensor).replace(r"\{expert\}", r"(?P<expert>\d+)")
        if not (match := re.fullmatch(pattern, name)):
            return None
        expert = match.groupdict().get("expert")
        return ParameterSlice(match["before"] + self.parameter, None if expert is None else int(expert), self.share)


@dataclass(frozen=True)
class Architecture:
    """A row of the table. `modules` and `submodules` are relative to `layer`, a pattern with `{layer}`."""

    modules: Mapping[str, ModuleTensors]
    renamed: tuple[RenamedTensors, ...] = ()
    """The tensors whose names differ between checkpoint and loaded model."""
    layer: str = "model.layers.{layer}."
    submodules: Mapping[str, str] = field(default_factory=lambda: {"layer": "", "mlp": "mlp", "attention": "self_attn"})
    """The names of a loaded model's own modules."""
    outside: Mapping[str, ModuleTensors] = field(
        default_factory=lambda: {
            "embeddings": ModuleTensors("model.embed_tokens.*|lm_head.*"),
            "final_norm": ModuleTensors("model.norm.*"),
        }
    )
    """The modules that lie in no layer: embeddings of input and output tokens, and the norm after the last layer."""
    activation: str = "hidden_act"
    """The config key of the MLP's activation. Some configs also have a second key, which the model does not read."""

    def parameter_of(self, tensor: str) -> ParameterSlice:
        """The place of a checkpoint's tensor in a loaded model."""
        return next((found for row in self.renamed if (found := row.parameter_of(tensor))), ParameterSlice(tensor))

    def submodule(self, layer: int, module: str) -> str:
        """The name, in a loaded model, of a whole layer or of its `mlp` or `attention`."""
        return (self.layer.format(layer=layer) + self.submodules[module]).rstrip(".")


_LLAMA_LIKE = Architecture(
    modules={
        "layer": ModuleTensors("*"),
        "mlp": ModuleTensors("mlp.*"),
        "attention": ModuleTensors("self_attn.*"),
        "norms": ModuleTensors("*layernorm.*"),
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
        **_LLAMA_LIKE.modules,
        "mlp": ModuleTensors("block_sparse_moe.*"),
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
    "norms": "layers.{layer}.norms",
    "router": "layers.{layer}.mlp.router",
    "gate_proj": "layers.{layer}.mlp.gate_proj",
    "up_proj": "layers.{layer}.mlp.up_proj",
    "down_proj": "layers.{layer}.mlp.down_proj",
    "embeddings": "embeddings",
    "final_norm": "final_norm",
}
"""The names of units, which are the same in all architectures. Dots separate outer from inner modules."""


def architecture(model_type: str) -> Architecture:
    """The row of a model type. Raises DapaError, which says how to add one, if there is none."""
    if model_type not in ARCHITECTURES:
        raise DapaError(
            f"model_type '{model_type}' is not known.{allowed_names(model_type, ARCHITECTURES, 'Known')}."
            " A new one is a row in dapa_exp/models/architecture.py that names its"
            " modules as the checkpoint does, and a line in tests/tiny.py that has it tested"
        )
    return ARCHITECTURES[model_type]


def units(model_type: str, num_layers: int, modules: Sequence[str], tensors: Iterable[str]) -> Units:
    """The units of a model, with their parts: the modules outside of the layers, then those of each layer, in order.

    Raises DapaError if the architecture has no such module, if one module lies within another, or if a module of a
    layer has no tensor in the checkpoint.
    """
    row = architecture(model_type)
    _refuse_modules(model_type, modules)
    names = list(tensors)
    outside = [module for module in modules if module in row.outside]
    ends = [Part(name) for name in names]
    found: Units = {module: _held(row.outside[module], ends, "") for module in outside}
    for layer in range(num_layers):
        prefix = row.layer.format(layer=layer)
        within = [part for name in names if name.startswith(prefix) for part in _parts(row, prefix, name)]
        for module in (module for module in modules if module not in outside):
            found[_UNIT_NAMES[module].format(layer=layer)] = _held(row.modules[module], within, prefix)
    return found


def count_units(num_layers: int, modules: Iterable[str]) -> int:
    """How many units `units` returns."""
    return sum(num_layers if "{layer}" in _UNIT_NAMES[module] else 1 for module in modules)


def _held(module: ModuleTensors, parts: Iterable[Part], prefix: str) -> tuple[Part, ...]:
    """The parts that a module holds. `prefix` is what its patterns leave out."""
    held = tuple(part for part in parts if module.holds(part, prefix))
    if not held:
        raise DapaError(f"the checkpoint has no tensor '{prefix}{module.tensors}'")
    return held


def _parts(row: Architecture, prefix: str, name: str) -> list[Part]:
    """The parts of a tensor: the shares that belong to different modules, or the tensor itself."""
    within = name.removeprefix(prefix)
    shares = {held.share for held in row.modules.values() if held.match(within)} - {WHOLE}
    return [Part(name, share) for share in sorted(shares) or [WHOLE]]


def layer_of(unit: str) -> int:
    """The layer that a unit belongs to; -1 for one that lies in no layer."""
    return int(unit.split(".")[1]) if "." in unit else -1


def scaled_layers(first: int, last: int, of: int, num_layers: int) -> range:
    """A range of layers (0-based, both ends included) of a model with `of` layers, scaled to `num_layers` layers."""
    count = max(1, round((last + 1 - first) * num_layers / of))
    start = min(round(first * num_layers / of), num_layers - count)
    return range(start, start + count)


def _refuse_modules(model_type: str, modules: Sequence[str]) -> None:
    row = ARCHITECTURES[model_type]
    if unknown := [module for module in modules if module not in {**row.modules, **row.outside}]:
        raise DapaError(f"granularity.modules: the layers of {model_type} have no {' and no '.join(unknown)}")
    for outer, inner in permutations(modules, 2):
        if _UNIT_NAMES[inner].startswith(_UNIT_NAMES[outer] + "."):
            raise DapaError(f"granularity.modules: {inner} lies within {outer}, so units would share tensors")
