"""Each method against its formula, written out anew; and all of them through search-free runs, export and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import load
from analysis.tables.main import main_table
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.registries import METHODS
from dapa_exp.models.architecture import Part
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader, tensor_digest
from dapa_exp.preflight.findings import find_problems, look
from dapa_exp.transplant.export.export import apply, export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Blend, Copy, TaskVector
from dapa_exp.transplant.methods.neurons import SwapNeurons
from dapa_exp.transplant.methods.subspace import SafeLora, SafeMerge
from dapa_exp.transplant.methods.tuned import FineTune
from tests.tiny import model_at, tiny_checkpoint, tiny_model
from tests.transplant.finished import config_of, finish, planted_sources, sharded
from tests.transplant.test_hybrid import make_pair

UNIT = "layers.1.mlp"
GATE, UP, DOWN = (Part(f"model.layers.1.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "llama")


@pytest.fixture
def base(tmp_path: Path) -> TensorReader:
    return TensorReader(tiny_checkpoint(tmp_path / "base", "llama", 3))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return tensor_digest(a) == tensor_digest(b)


def based_on(folder: Path) -> str:
    return f"transplant.base={folder}"


def every_method(pair: Pair, base: TensorReader) -> list[Method]:
    return [
        Copy(pair),
        Blend(pair, 0.3, {}),
        TaskVector(pair, base, 0.5, 0.4, 7),
        SafeLora(pair, base, 1.0),
        SafeMerge(pair, base, 1.0, 0.2),
        SwapNeurons(pair, 0.1, "difference"),
        tuned_method(pair),
    ]


def tuned_method(pair: Pair) -> FineTune:
    """A fine-tuned student, from the file that its preparation leaves."""
    method = FineTune(
        pair,
        **config_of(pair.teacher_folder, pair.student_folder, "transplant=fine_tune").transplant.model_dump(
            exclude={"method"}
        ),
    )
    method.prepare(pair.student_folder, planted_sources(pair))
    return method


def test_every_method_is_tried_here(pair: Pair, base: TensorReader) -> None:
    assert {type(method) for method in every_method(pair, base)} == {method for _, method in METHODS}


def test_what_is_written_is_what_differs_from_the_student(pair: Pair, base: TensorReader) -> None:
    for method in every_method(pair, base):
        for part in pair.units[UNIT]:
            new, again, student = method.tensor(UNIT, part), method.tensor(UNIT, part), pair.student.read(part)
            assert same(new, again)
            assert new.dtype == student.dtype
            assert int((new != student).sum()) == method.written(UNIT, part), type(method)


def test_a_hybrid_carries_verifies_and_gives_back_what_a_method_computes(pair: Pair, base: TensorReader) -> None:
    for method in every_method(pair, base):
        model = tiny_model("llama", 2)
        hybrid = Hybrid(model, pair, method)
        hybrid.set_units([UNIT])
        proof = hybrid.verify()["transplanted"]
        tensors = HybridTensors(pair, [UNIT], method)
        assert proof == {name: tensor_digest(tensors.read(name)) for name in tensors.changed}
        assert hybrid.written() == sum(method.written(UNIT, part) for part in pair.units[UNIT])
        hybrid.set_units([])
        before = tiny_model("llama", 2).state_dict()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_blend_has_both_models_at_its_ends(pair: Pair) -> None:
    student, teacher = pair.student.read(UP), pair.teacher.read(UP)
    assert same(Blend(pair, 0.0, {}).tensor(UNIT, UP), student)
    assert same(Blend(pair, 1.0, {}).tensor(UNIT, UP), teacher)
    named = Blend(pair, 0.0, {UNIT: 0.25})
    torch.testing.assert_close(named.tensor(UNIT, UP), 0.75 * student + 0.25 * teacher)
    assert same(named.tensor("layers.0.mlp", UP), student)
    with pytest.raises(DapaError, match=r"no unit 'layers.9.mlp'"):
        Blend(pair, 0.5, {"layers.9.mlp": 1.0})


def test_a_task_vector_is_added_and_its_dropped_entries_stay_the_students(pair: Pair, base: TensorReader) -> None:
    student, vector = pair.student.read(UP), pair.teacher.read(UP) - base.read(UP)
    torch.testing.assert_close(TaskVector(pair, base, 0.5, 0.0, 0).tensor(UNIT, UP), student + 0.5 * vector)
    dropped = TaskVector(pair, base, 0.5, 0.4, 0).tensor(UNIT, UP)
    stays = dropped == student
    assert 0.3 < float(stays.float().mean()) < 0.5
    torch.testing.assert_close(dropped[~stays], (student + 0.5 * vector / 0.6)[~stays])
    assert not same(dropped, TaskVector(pair, base, 0.5, 0.4, 1).tensor(UNIT, UP))


def test_the_subspace_methods_act_below_the_threshold_alone(pair: Pair, base: TensorReader) -> None:
    student, teacher = pair.student.read(UP), pair.teacher.read(UP)
    aligned, update = teacher - base.read(UP), student - teacher
    projected = (aligned @ aligned.T / torch.linalg.matrix_norm(aligned)) @ update
    cosine = float((projected * update).sum() / projected.norm() / update.norm())
    above, below = cosine + 1e-3, cosine - 1e-3
    torch.testing.assert_close(SafeLora(pair, base, above).tensor(UNIT, UP), teacher + projected)
    torch.testing.assert_close(SafeMerge(pair, base, above, 0.2).tensor(UNIT, UP), 0.8 * student + 0.2 * teacher)
    for method in (SafeLora(pair, base, below), SafeMerge(pair, base, below, 0.2)):
        assert same(method.tensor(UNIT, UP), student)
        assert method.written(UNIT, UP) == 0


def test_an_update_of_nothing_and_vectors_are_left_alone(tmp_path: Path, base: TensorReader) -> None:
    pair = make_pair(tmp_path, "llama", ("layer",))
    norm = Part("model.layers.1.input_layernorm.weight")
    assert SafeLora(pair, base, 1.0).written("layers.1", norm) == 0
    untouched = replace(pair, teacher=pair.student)
    assert SafeLora(untouched, base, 1.0).written("layers.1", UP) == 0


def test_the_neurons_that_differ_most_are_swapped_in_all_three_projections(pair: Pair) -> None:
    method = SwapNeurons(pair, 0.25, "difference")
    scores = torch.zeros(24)
    for name, axis in ((UP, 0), (GATE, 0), (DOWN, 1)):
        difference = (pair.teacher.read(name) - pair.student.read(name)).double()
        scores += difference.square().sum(1 - axis)
    neurons = sorted(scores.topk(6).indices.tolist())
    assert method.neurons(UNIT).tolist() == neurons
    others = [i for i in range(24) if i not in neurons]
    up, down = method.tensor(UNIT, UP), method.tensor(UNIT, DOWN)
    assert same(up[neurons], pair.teacher.read(UP)[neurons])
    assert same(up[others], pair.student.read(UP)[others])
    assert same(down[:, neurons], pair.teacher.read(DOWN)[:, neurons])
    assert same(down[:, others], pair.student.read(DOWN)[:, others])


def test_of_a_whole_layer_only_neurons_are_swapped(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "llama", ("layer",))
    method = SwapNeurons(pair, 0.25, "difference")
    query = Part("model.layers.1.self_attn.q_proj.weight")
    assert same(method.tensor("layers.1", query), pair.student.read(query))
    assert sum(method.written("layers.1", part) for part in pair.units["layers.1"]) == 3 * 6 * 16


def test_a_unit_without_neurons_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "llama", ("attention",))
    with pytest.raises(DapaError, match=r"layers\.0\.attention: holds no neurons"):
        SwapNeurons(pair, 0.1, "difference")


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_goes_from_config_to_export_and_back(tmp_path: Path, name: str) -> None:
    folders = [sharded(tmp_path / role, "llama", seed) for seed, role in enumerate(("teacher", "student", "base"))]
    words = [f"transplant={name}"]
    if name in ("safe_lora", "safe_merge"):
        words += [based_on(folders[2]), "transplant.threshold=1", "transplant.any_student=true"]
    if name == "task_vector":
        words += [based_on(folders[2]), "transplant.drop=0.5"]
    run = finish(tmp_path / "run", config_of(folders[0], folders[1], *words), [UNIT])
    finished = open_finished(run)
    assert finished.record.transplant.method == name
    export(finished, tmp_path / "out", "checkpoint")
    export(finished, tmp_path / "patch", "patch")
    apply(tmp_path / "patch", model_at(folders[1]), tmp_path / "applied")
    for file in (tmp_path / "out").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "applied" / file.name).read_bytes()
    if name != "copy":
        with pytest.raises(DapaError, match=f"mergekit cannot do transplant={name} bit for bit"):
            export(finished, tmp_path / "recipe.yaml", "mergekit")


@pytest.mark.parametrize("name", ["safe_lora", "safe_merge"])
def test_a_method_for_students_tuned_from_the_teacher_refuses_others(tmp_path: Path, name: str) -> None:
    base = sharded(tmp_path / "base", "llama", 0)
    teacher = tuned(base, tmp_path / "teacher", 0.01, 1)
    descendant, sibling = (tuned(of, tmp_path / f"of-{of.name}", 0.03, 2) for of in (teacher, base))
    words = [f"transplant={name}", based_on(base), "transplant.threshold=1"]
    run = finish(tmp_path / "run", config_of(teacher, descendant, *words), [UNIT])
    assert open_finished(run).record.transplant.student_share == pytest.approx(1.0, abs=0.2)
    config = config_of(teacher, sibling, *words)
    with pytest.raises(DapaError, match=f"transplant={name} is made for a student that was tuned from the teacher"):
        finish(tmp_path / "refused", config, [UNIT])
    (problem,) = find_problems([config], look([config], silent))
    assert "any_student=true goes on all the same" in problem
    run = finish(tmp_path / "forced", config_of(teacher, sibling, *words, "transplant.any_student=true"), [UNIT])
    assert open_finished(run).record.transplant.student_share == pytest.approx(0.0, abs=0.2)
    caption = main_table(load(run)).caption
    assert "1/1 runs use a method that is made for students tuned from the teacher" in caption


def tuned(model: Path, folder: Path, by: float, seed: int) -> Path:
    """A checkpoint that differs from another by noise, as a fine-tune of it does."""
    shutil.copytree(model, folder)
    generator = torch.Generator().manual_seed(seed)
    for file in folder.glob("*.safetensors"):
        moved = {name: t + by * torch.randn(t.shape, generator=generator) for name, t in load_file(file).items()}
        save_file(moved, file, {"format": "pt"})
    return folder


def test_a_base_that_is_not_given_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    teacher, student = (sharded(tmp_path / role, "llama", seed) for seed, role in enumerate(("teacher", "student")))
    other = sharded(tmp_path / "base", "llama", 2, intermediate_size=32)
    for words, message in (
        ([based_on(other)], r"does not fit the student: .*shape \[16, 32\], not \[16, 24\]"),
        ([], "base is null: the unaligned model that the teacher was aligned from must be named"),
    ):
        with pytest.raises(DapaError, match=message):
            finish(tmp_path / str(len(words)), config_of(teacher, student, "transplant=safe_lora", *words), [UNIT])
