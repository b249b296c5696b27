"""Where layers and projections live, by `config.model_type`. A new architecture is a row and a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dapa_exp.errors import DapaError, nearest

Units = dict[str, tuple[str, ...]]
"""Unit name, such as `layers.3.mlp`, to the names of the tensors that it moves."""


@dataclass(frozen=True)
class Architecture:
    """Names as they stand in the checkpoint: `layer` holds `{layer}`; modules are relative to it."""

    layer: str
    modules: Mapping[str, str]


_LLAMA_LIKE = Architecture(
    layer="model.layers.{layer}.",
    modules={
        "layer": "",
        "mlp": "mlp.",
        "attention": "self_attn.",
        "gate_proj": "mlp.gate_proj.",
        "up_proj": "mlp.up_proj.",
        "down_proj": "mlp.down_proj.",
    },
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "gemma": _LLAMA_LIKE,
}

_UNIT_NAMES = {
    "layer": "layers.{layer}",
    "mlp": "layers.{layer}.mlp",
    "attention": "layers.{layer}.attention",
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
            f" {', '.join(ARCHITECTURES)}. A new one is a row in dapa_exp/models/architecture.py"
        )
    return ARCHITECTURES[model_type]


def units(model_type: str, num_layers: int, modules: Sequence[str], tensors: Iterable[str]) -> Units:
    """The units of a model: each module of each layer, in layer order, with the tensors it holds.

    Raises DapaError where a module of a layer holds no tensor of the checkpoint.
    """
    row = architecture(model_type)
    names = list(tensors)
    found: Units = {}
    for layer in range(num_layers):
        for module in modules:
            prefix = row.layer.format(layer=layer) + row.modules[module]
            held = tuple(name for name in names if name.startswith(prefix))
            if not held:
                raise DapaError(f"the checkpoint has no tensor under '{prefix}' ({module} of layer {layer})")
            found[_UNIT_NAMES[module].format(layer=layer)] = held
    return found


def layer_of(unit: str) -> int:
    """The layer that a unit belongs to."""
    return int(unit.split(".")[1])


def scaled_layers(first: int, last: int, of: int, num_layers: int) -> range:
    """A range of layers (0-based, both ends in) of an `of`-layer model: its place and share in `num_layers`."""
    count = max(1, round((last + 1 - first) * num_layers / of))
    start = min(round(first * num_layers / of), num_layers - count)
    return range(start, start + count)
