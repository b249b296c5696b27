"""Every row of the table against transformers itself: what a unit moves, in memory and in the saved checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from transformers import PreTrainedModel

from dapa_exp.base.errors import DapaError
from dapa_exp.models.architecture import ARCHITECTURES, architecture, count_units, layer_of, scaled_layers, units
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.plan import plan_transplant
from tests.tiny import EVERY_CONFIG, tiny_model

LAYERS = 3
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
EVERYTHING = tuple(yaml.safe_load(Path("conf/granularity/everything.yaml").read_text())["modules"])
ROWS = [
    (family, modules)
    for family, row in ARCHITECTURES.items()
    for modules in (
        ("layer",),
        ("mlp",),
        ("attention",),
        PROJECTIONS,
        *([("router",)] if "router" in row.modules else []),
        EVERYTHING,
    )
]
TOKENS = torch.tensor([[3, 14, 15, 9, 26, 5, 35]])


@dataclass(frozen=True)
class Checkpoints:
    """Two models that differ in every tensor, norms included, and where they are saved."""

    family: str
    folders: dict[str, Path]
    models: dict[str, PreTrainedModel]

    def load(self, name: str) -> PreTrainedModel:
        return deepcopy(self.models[name])

    def pair(self, modules: tuple[str, ...]) -> Pair:
        teacher, student = (TensorReader(self.folders[name]) for name in ("teacher", "student"))
        found = units(self.family, LAYERS, modules, student)
        return Pair(self.folders["teacher"], self.folders["student"], teacher, student, self.family, LAYERS, found, ())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoints]:
    found = {}
    for family in EVERY_CONFIG:
        folders, models = {}, {}
        for seed, name in enumerate(("teacher", "student")):
            model = tiny_model(family, seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(0.0, 0.3)
            folders[name] = tmp_path_factory.mktemp(family) / name
            model.save_pretrained(folders[name])
            models[name] = model.eval()
        found[family] = Checkpoints(family, folders, models)
    return found


def transplanted_by_hand(student: PreTrainedModel, teacher: PreTrainedModel, chosen: Iterable[str]) -> None:
    """The same by what transformers calls its modules, without the table."""
    ends = {"embeddings": "model.embed_tokens lm_head", "final_norm": "model.norm"}
    within: dict[str, str | tuple[str, ...]] = {
        "attention": "self_attn.",
        "layer": "",
        "router": "mlp.gate.",
        "norms": NORMS,
    }
    for unit in chosen:
        module = unit.rpartition(".")[2] if unit.count(".") > 1 else "layer"
        inside = ("",) if unit in ends else within.get(module, "mlp.")
        for holder in ends.get(unit, f"model.layers.{layer_of(unit)}").split():
            copy_module(student.get_submodule(holder), teacher.get_submodule(holder), inside, module)


@torch.no_grad()
def copy_module(ours: nn.Module, theirs: nn.Module, inside: str | tuple[str, ...], module: str) -> None:
    for name, tensor in ours.named_parameters():
        if name.startswith(inside):
            copy_part(tensor, theirs.get_parameter(name), name, module)


@torch.no_grad()
def copy_part(ours: nn.Parameter, theirs: nn.Parameter, name: str, module: str) -> None:
    if module in PROJECTIONS and "gate_up_proj" in name:
        half = ours.shape[-2] // 2
        rows = {"gate_proj": slice(half), "up_proj": slice(half, None), "down_proj": slice(0)}[module]
        ours[..., rows, :] = theirs[..., rows, :]
    elif module not in PROJECTIONS or module in name:
        ours.copy_(theirs)


def some(pair: Pair) -> list[str]:
    """About half of the units, of different layers and modules."""
    return list(pair.units)[1::2]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_student_with_everything_of_the_teacher_is_the_teacher(saved: dict[str, Checkpoints], family: str) -> None:
    student = saved[family].load("student")
    pair = saved[family].pair(EVERYTHING)
    assert len(pair.units) == count_units(LAYERS, EVERYTHING)
    Hybrid(student, pair).set_units(pair.units)
    assert_same(student, saved[family].load("teacher"))
    assert plan_transplant(pair.units, pair.units, pair.teacher, pair.student).percent == 100.0


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(TOKENS).logits
    return result


def test_every_row_is_tested() -> None:
    assert ARCHITECTURES.keys() == EVERY_CONFIG.keys()


@pytest.mark.parametrize(("family", "modules"), ROWS)
def test_a_hybrid_is_what_copying_modules_by_hand_gives(
    saved: dict[str, Checkpoints], family: str, modules: tuple[str, ...]
) -> None:
    student, by_hand = saved[family].load("student"), saved[family].load("student")
    pair = saved[family].pair(modules)
    hybrid = Hybrid(student, pair)
    hybrid.set_units(pair.units)
    hybrid.set_units(some(pair))
    proof = hybrid.verify()
    assert set(proof["transplanted"]) == {part.tensor for unit in some(pair) for part in pair.units[unit]}
    assert len(proof["transplanted"]) + proof["untouched"] == len(pair.student.tensors)
    transplanted_by_hand(by_hand, saved[family].load("teacher"), some(pair))
    assert_same(student, by_hand)
    hybrid.set_units(())
    assert_same(student, saved[family].load("student"))


@pytest.mark.parametrize(("family", "modules"), ROWS)
def test_a_plan_counts_what_changes_in_memory(
    saved: dict[str, Checkpoints], family: str, modules: tuple[str, ...]
) -> None:
    pair = saved[family].pair(modules)
    plan = plan_transplant(some(pair), pair.units, pair.teacher, pair.student)
    before, after = saved[family].load("student"), saved[family].load("student")
    transplanted_by_hand(after, saved[family].load("teacher"), some(pair))
    changed = sum(int((a != b).sum()) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert plan.parameters == changed
    assert plan.bytes == 4 * changed
    assert plan.parameters_total == sum(parameter.numel() for parameter in before.parameters())
    assert plan.as_json()["percent"] == pytest.approx(100 * changed / plan.parameters_total)


def test_a_plan_tells_the_halves_of_a_fused_tensor_apart(saved: dict[str, Checkpoints]) -> None:
    pair = saved["phi3"].pair(PROJECTIONS)
    plan = plan_transplant(["layers.0.mlp.gate_proj", "layers.0.mlp.up_proj"], pair.units, pair.teacher, pair.student)
    name = "model.layers.0.mlp.gate_up_proj.weight"
    assert [(t.name, t.rows, t.shape) for t in plan.tensors] == [(name, (0, 24), (24, 16)), (name, (24, 48), (24, 16))]


def test_all_experts_share_a_unit(saved: dict[str, Checkpoints]) -> None:
    for family in ("mixtral", "qwen3_moe"):
        pair = saved[family].pair(("gate_proj", "router"))
        assert [len(parts) for parts in pair.units.values()] == [4, 1] * LAYERS
        assert list(pair.units)[:2] == ["layers.0.mlp.gate_proj", "layers.0.mlp.router"]


def test_a_layer_without_experts_among_others(tmp_path: Path) -> None:
    tiny_model("qwen3_moe", 1, decoder_sparse_step=2).save_pretrained(tmp_path)
    found = units("qwen3_moe", LAYERS, ["gate_proj"], TensorReader(tmp_path))
    assert [len(parts) for parts in found.values()] == [1, 4, 1]


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_submodules_are_found_in_a_loaded_model(family: str) -> None:
    model, row = tiny_model(family, 1), architecture(family)
    for module in ("layer", "mlp", "attention"):
        assert model.get_submodule(row.submodule(2, module))


def test_an_unknown_architecture_says_how_to_add_it() -> None:
    with pytest.raises(DapaError, match=r"'gemmma' is not known\. Did you mean 'gemma'\?.*a row in .*architecture\.py"):
        architecture("gemmma")


def test_a_checkpoint_without_the_named_module_is_refused() -> None:
    with pytest.raises(DapaError, match=r"no tensor 'model\.layers\.1\.mlp\.gate_proj\.\*'"):
        units("llama", 2, ["gate_proj"], ["model.layers.0.mlp.gate_proj.weight"])


def test_a_module_that_the_architecture_lacks_is_refused() -> None:
    with pytest.raises(DapaError, match="the layers of llama have no router"):
        units("llama", 2, ["mlp", "router"], [])


def test_modules_within_one_another_are_refused() -> None:
    with pytest.raises(DapaError, match="up_proj lies within mlp"):
        units("llama", 2, ["up_proj", "attention", "mlp"], [])


@pytest.mark.parametrize(
    ("first", "last", "of", "now", "expected"),
    [
        (12, 17, 32, 32, range(12, 18)),
        (12, 17, 32, 8, range(3, 5)),
        (3, 6, 18, 8, range(1, 3)),
        (0, 0, 40, 4, range(1)),
        (17, 17, 18, 4, range(3, 4)),
    ],
)
def test_layer_ranges_scale_with_depth(first: int, last: int, of: int, now: int, expected: range) -> None:
    assert scaled_layers(first, last, of, now) == expected


def assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
