"""A transplant is exact: named tensors are the teacher's bit for bit, all others the student's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.models.architecture import units
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader, tensor_digest
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.merge import HybridTensors
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
    hybrid.set_units(["layers.0.mlp", "layers.2.mlp"])
    hybrid.set_units(["layers.1.mlp", "layers.2.mlp"])
    teacher, student = tiny_model(family, 1).state_dict(), tiny_model(family, 2).state_dict()
    for name, tensor in model.state_dict().items():
        moved = ".mlp." in name and (".1." in name or ".2." in name)
        assert torch.equal(tensor, (teacher if moved else student)[name]), name


@pytest.mark.parametrize("family", CONFIGS)
def test_putting_everything_back_gives_the_student(tmp_path: Path, family: str) -> None:
    model = tiny_model(family, 2)
    hybrid = Hybrid(model, make_pair(tmp_path, family, ("layer",)))
    hybrid.set_units(["layers.0", "layers.1", "layers.2"])
    hybrid.set_units([])
    before = tiny_model(family, 2).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_logits_of_a_hybrid_with_everything_equal_the_teachers_body(tmp_path: Path) -> None:
    model, teacher = tiny_model("llama", 2), tiny_model("llama", 1)
    hybrid = Hybrid(model, make_pair(tmp_path, "llama", ("layer",)))
    hybrid.set_units(["layers.0", "layers.1", "layers.2"])
    states = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    ours = model.model(inputs_embeds=states, output_hidden_states=True).hidden_states[-2]
    theirs = teacher.model(inputs_embeds=states, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(ours, theirs)


def test_verify_proves_what_was_moved_and_notices_what_was_touched(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "gemma")
    model = tiny_model("gemma", 2)
    hybrid = Hybrid(model, pair)
    hybrid.set_units(["layers.1.mlp"])
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
    one, other = (model.get_submodule(f"model.layers.{layer}.mlp.up_proj") for layer in (0, 2))
    one.weight = other.weight
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path: Path, value: float) -> None:
    pair = make_pair(tmp_path, "llama")
    poison(tmp_path / "teacher", "model.layers.1.mlp.up_proj.weight", value)
    hybrid = Hybrid(tiny_model("llama", 2), pair)
    hybrid.set_units(["layers.0.mlp", "layers.2.mlp"])
    with pytest.raises(DapaError, match=r"layers\.1\.mlp: .*up_proj\.weight would hold NaN or infinite.*teacher"):
        hybrid.set_units(["layers.1.mlp"])


def test_a_value_too_large_for_the_students_dtype_is_refused(tmp_path: Path) -> None:
    tiny_model("llama", 2).half().save_pretrained(tmp_path / "half")
    pair = replace(make_pair(tmp_path, "llama"), student=TensorReader(tmp_path / "half"))
    poison(tmp_path / "teacher", "model.layers.1.mlp.up_proj.weight", 1e5)
    with pytest.raises(DapaError, match=r"up_proj\.weight would hold NaN or infinite values"):
        Hybrid(tiny_model("llama", 2), pair).set_units(["layers.1.mlp"])


def test_what_is_moved_has_the_students_dtype(tmp_path: Path) -> None:
    student = tiny_model("llama", 2).bfloat16()
    student.save_pretrained(tmp_path / "bf16")
    pair = replace(make_pair(tmp_path, "llama"), student=TensorReader(tmp_path / "bf16"))
    hybrid = Hybrid(student.float(), pair)
    hybrid.set_units(["layers.1.mlp"])
    hybrid.verify()
    tensors = HybridTensors(pair, ["layers.1.mlp"])
    assert {tensors.read(name).dtype for name in tensors} == {torch.bfloat16}
    assert all(torch.equal(tensors.read(name).float(), tensor) for name, tensor in student.state_dict().items())


def test_a_student_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    model = tiny_model("llama", 2)
    model.model.norm.to("meta")  # where models are spread over devices, what comes last is left on disk first
    with pytest.raises(DapaError, match="not in memory: the student does not fit on the devices"):
        Hybrid(model, make_pair(tmp_path, "llama"))


def poison(folder: Path, name: str, value: float) -> None:
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    tensors[name][0, 0] = value
    save_file(tensors, file, {"format": "pt"})


def test_entries_that_the_teacher_left_alone_are_moved_but_do_not_differ(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "llama")
    teacher = load_file(tmp_path / "teacher" / "model.safetensors")
    student = load_file(tmp_path / "student" / "model.safetensors")
    same = "model.layers.1.mlp.up_proj.weight"
    teacher[same] = student[same].clone()
    teacher[same][0, 0] += 1
    save_file(teacher, tmp_path / "teacher" / "model.safetensors", {"format": "pt"})
    hybrid = Hybrid(tiny_model("llama", 2), replace(pair, teacher=TensorReader(tmp_path / "teacher")))
    hybrid.set_units(["layers.1.mlp"])
    others = sum(teacher[f"model.layers.1.mlp.{name}.weight"].numel() for name in ("gate_proj", "down_proj"))
    assert hybrid.written() == others + student[same].numel()
    assert hybrid.differing() == others + 1
