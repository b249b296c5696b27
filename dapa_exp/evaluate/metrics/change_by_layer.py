"""How a transplant changes hidden states and attention, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from dapa_exp.config.registries import ModelSizes
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.metric import METRICS, Metric, ModelInEngine, Step, compared_rows
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.evaluation import LayerChange

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from dapa_exp.models.load import LoadedModel

Side = Literal["harmful", "harmless"]
PROMPT_SET: dict[Side, str] = {"harmful": "report", "harmless": "harmless"}

States = dict[str, "Tensor"]
"""States at each prompt's last token, by name: for batch i and layer j, `i.j.hidden` has shape (prompts, hidden size),
in the last layer after the final norm, and `i.j.attention` has shape (prompts, heads, tokens)."""


class ChangeByLayer(Metric):
    """The distance between hybrid and student after each layer. The record has a field of its own for it."""

    name = "change_by_layer"

    def kept_bytes(self, config: Config, sizes: ModelSizes) -> int:
        """The student's states."""
        return compared_rows(config) * sizes.state_bytes

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        return {}

    def keep(self, model: ModelInEngine) -> None:
        if model.name == "student":
            for side in _sides(model):
                _students(model, side)

    def changes(self, model: ModelInEngine) -> dict[Side, list[LayerChange]]:
        """The distance of the model in the engine from the student, by layer. The student was measured before."""
        sides = _sides(model)
        after = {side: states(model.loaded, rows, model.engine.batch_size) for side, rows in sides.items()}
        return {side: changes(_students(model, side), after[side]) for side in sides}


CHANGE_BY_LAYER = ChangeByLayer()
METRICS.register("change_by_layer", CHANGE_BY_LAYER)


def _sides(model: ModelInEngine) -> dict[Side, list[Prompt]]:
    """The prompts at whose end inner states are compared."""
    rows = {side: model.rows(name)[: model.config.evaluate.divergence_rows] for side, name in PROMPT_SET.items()}
    return {side: prompts for side, prompts in rows.items() if prompts}


def _students(model: ModelInEngine, side: Side) -> States:
    """The student's states, which stay in the run's folder until the run is done."""
    file, rows = model.run.files.reference(f"states-{side}"), _sides(model)[side]
    return model.tensors(file, "student", lambda: states(model.loaded, rows, model.engine.batch_size))


def states(loaded: LoadedModel, prompts: Sequence[Prompt], batch_size: int) -> States:
    """Hidden states and attention at the last token of each prompt, on the CPU, in float32."""
    import torch

    from dapa_exp.engine.plain import encode

    found: States = {}
    with torch.inference_mode(), _showing_attention(loaded.model):
        for i, start in enumerate(range(0, len(prompts), batch_size)):
            inputs = encode(loaded, prompts[start : start + batch_size])
            output = loaded.model(**inputs, output_hidden_states=True, output_attentions=True, use_cache=False)
            for j, hidden in enumerate(output.hidden_states[1:]):
                found[f"{i}.{j}.hidden"] = hidden[:, -1].float().cpu()
            for j, attention in enumerate(output.attentions or ()):
                if attention is not None:
                    found[f"{i}.{j}.attention"] = attention[:, :, -1].float().cpu()
    return found


def changes(before: States, after: States) -> list[LayerChange]:
    """The distance between two models' states, layer by layer. Prompts and batches must be the same."""
    import torch

    from dapa_exp.evaluate.statistics import mean

    layers = 1 + max(int(name.split(".")[1]) for name in before)
    found = []
    for layer in range(layers):
        hidden = [1 - torch.cosine_similarity(a, b, dim=-1) for a, b in _both(before, after, f".{layer}.hidden")]
        attention = [0.5 * (a - b).abs().sum(-1).mean(-1) for a, b in _both(before, after, f".{layer}.attention")]
        found.append(
            LayerChange(
                layer=layer,
                hidden=mean(torch.cat(hidden).tolist()),
                attention=mean(torch.cat(attention).tolist()) if attention else None,
            )
        )
    return found


def _both(before: States, after: States, suffix: str) -> Iterator[tuple[Tensor, Tensor]]:
    return ((tensor, after[name]) for name, tensor in before.items() if name.endswith(suffix))


@contextmanager
def _showing_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use eager attention: fused kernels do not return attention weights."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
