"""A transplant is exact: named tensors are the teacher's bit for bit, all others the student's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dapa_exp.errors import DapaError
from dapa_exp.models.architecture import units
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader, tensor_digest
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.plan import plan_transplant
from tests.tiny import CONFIGS, tiny_checkpoint, tiny_model


def make_pair(tmp_path: Path, family: str, modules: tuple[str, ...] = ("mlp",)) -> Pair:
    teacher = TensorReader(tiny_checkpoint(tmp_path / "teacher", family, 1))
    student = TensorReader(tiny_checkpoint(tmp_path / "student", family, 2))
    found = units(family, 3, modules, student)
    return Pair(tmp_path / "teacher", tmp_path / "student", teacher, student, family, 3, found, ())


@pytest.mark.parametrize("family", CONFIGS)
def test_carried_units_are_the_teachers_and_all_else_the_students(tmp_path: Path, family: str) -> None:
    pair = make_pair(tmp_path, family)
    model = tiny_model(family, 2)
    hybrid = Hybrid(model, pair)
    hybrid.carry(["layers.0.mlp", "layers.2.mlp"])
    hybrid.carry(["layers.1.mlp", "layers.2.mlp"])
    teacher, student = tiny_model(family, 1).state_dict(), tiny_model(family, 2).state_dict()
    for name, tensor in model.state_dict().items():
        moved = ".mlp." in name and (".1." in name or ".2." in name)
        assert torch.equal(tensor, (teacher if moved else student)[name]), name


@pytest.mark.parametrize("family", CONFIGS)
def test_putting_everything_back_gives_the_student(tmp_path: Path, family: str) -> None:
    model = tiny_model(family, 2)
    hybrid = Hybrid(model, make_pair(tmp_path, family, ("layer",)))
    hybrid.carry(["layers.0", "layers.1", "layers.2"])
    hybrid.carry([])
    before = tiny_model(family, 2).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_logits_of_a_hybrid_with_everything_equal_the_teachers_body(tmp_path: Path) -> None:
    model, teacher = tiny_model("llama", 2), tiny_model("llama", 1)
    hybrid = Hybrid(model, make_pair(tmp_path, "llama", ("layer",)))
    hybrid.carry(["layers.0", "layers.1", "layers.2"])
    states = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    ours = model.model(inputs_embeds=states, output_hidden_states=True).hidden_states[-2]
    theirs = teacher.model(inputs_embeds=states, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(ours, theirs)


def test_verify_proves_what_was_moved_and_notices_what_was_touched(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "gemma")
    model = tiny_model("gemma", 2)
    hybrid = Hybrid(model, pair)
    hybrid.carry(["layers.1.mlp"])
    proof = hybrid.verify()
    assert set(proof["transplanted"]) == {part.tensor for part in pair.units["layers.1.mlp"]}
    for name, digest in proof["transplanted"].items():
        assert digest == tensor_digest(pair.teacher.read(name))
    assert proof["untouched"] == len(pair.student.tensors) - 3
    with torch.no_grad():
        model.get_parameter("model.layers.2.mlp.up_proj.weight")[0, 0] += 1e-6
    with pytest.raises(DapaError, match=r"up_proj\.weight: differs from the student's"):
        hybrid.verify()


def test_verify_tells_negative_zero_from_zero(tmp_path: Path) -> None:
    model = tiny_model("llama", 2)
    hybrid = Hybrid(model, make_pair(tmp_path, "llama"))
    norm = model.get_parameter("model.norm.weight")
    with torch.no_grad():
        norm.copy_(-norm)
    with pytest.raises(DapaError, match=r"model\.norm\.weight"):
        hybrid.verify()


def test_a_tensor_shared_with_something_outside_its_unit_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "llama")
    model = tiny_model("llama", 2)
    model.get_submodule("model.layers.0.mlp").up_proj.weight = model.get_submodule("model.layers.2.mlp").up_proj.weight
    with pytest.raises(DapaError, match="is the same tensor as"):
        Hybrid(model, pair)


def test_a_tied_head_is_verified_under_the_name_the_checkpoint_stores(tmp_path: Path) -> None:
    model = tiny_model("gemma", 2)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    hybrid = Hybrid(model, make_pair(tmp_path, "gemma"))
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1.0
    with pytest.raises(DapaError, match=r"embed_tokens\.weight: differs from the student's"):
        hybrid.verify()


def test_a_plan_counts_before_any_weight_is_read(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "llama")
    total = sum(tensor.numel() for tensor in tiny_model("llama", 2).parameters())
    for file in (tmp_path / "teacher").glob("*.safetensors"):
        file.unlink()
    plan = plan_transplant(["layers.0.mlp", "layers.2.mlp"], pair.units, pair.teacher, pair.student)
    assert plan.parameters == 2 * 3 * 16 * 24
    assert plan.bytes == 4 * plan.parameters
    assert plan.parameters_total == total
    assert plan.percent == pytest.approx(100 * plan.parameters / total)
    assert [tensor.unit for tensor in plan.tensors] == ["layers.0.mlp"] * 3 + ["layers.2.mlp"] * 3
