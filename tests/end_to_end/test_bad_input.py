"""Whatever is wrong with what a user gives: one clear error, no traceback, and nothing is lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.zoo import store
from tests.commands import DAPA, Said
from tests.settings import quick
from tests.tiny import tiny_checkpoint

Dapa = Callable[..., Said]
EDITED = "model.layers.2.mlp.up_proj.weight"
BASE = "pair=mini-llama-small-base"


def edited(tmp_path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a miniature with one tensor changed."""
    folder = Path(shutil.copytree(store.path(name), tmp_path / name))
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, EDITED: change(tensors[EDITED])}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pair=mini-lama-small-base",), "Did you mean 'mini-llama-small-base'"),
        ((BASE, "search.treshold=0.5"), "Did you mean 'threshold'"),
        ((BASE, "search.threshold=2"), "search.threshold: is 2"),
        ((BASE, "dataset.report.rows=[0,64]"), "overlap"),
        (("-m", "pair=glob(nothing-*)"), "glob(nothing-*): matches no pair"),
        ((BASE, "pair.student.id=/no/such/folder"), "/no/such/folder"),
        (("-m", "pair=mini-llama-small-base,mini-mistral-base", "hydra.sweep.subdir=same"), "share this folder"),
        ((BASE, "search=random", "search.k=500"), "search.k: cannot draw 500 of"),
        ((BASE, "transplant=swap_neurons", "granularity=attention"), "holds no neurons"),
        ((BASE, "transplant=blend", "+transplant.alphas={layers.99.mlp: 0.5}"), "no unit 'layers.99.mlp'"),
    ],
)
def test_before_anything_starts(here: Dapa, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    assert said in here(*quick(*words)).complaint
    assert not list(tmp_path.rglob("generations"))


def test_teacher_and_student_that_do_not_fit(here: Dapa, tmp_path: Path) -> None:
    student = tiny_checkpoint(tmp_path / "student", "llama", 1)
    complaint = here(*quick(BASE, f"pair.student.id={student}")).complaint
    assert "do not fit" in complaint
    assert "num_hidden_layers: teacher 8, student 3" in complaint
    assert "hidden_size: teacher 64, student 16" in complaint


def test_a_truncated_checkpoint(here: Dapa, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(store.path("llama-small-base"), student)
    weights = student / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1000)
    assert f"{weights}: truncated" in here(*quick(BASE, f"pair.student.id={student}")).complaint


def test_a_missing_shard(here: Dapa, tmp_path: Path) -> None:
    student = tmp_path / "student"
    AutoModelForCausalLM.from_pretrained(store.path("llama-small-base")).save_pretrained(student, max_shard_size="1MB")
    lost = sorted(student.glob("*.safetensors"))[1]
    lost.unlink()
    complaint = here(*quick(BASE, f"pair.student.id={student}")).complaint
    assert f"{student}: 1 of " in complaint
    assert f"shards are missing: {lost.name}" in complaint


def test_a_tensor_of_another_shape(here: Dapa, tmp_path: Path) -> None:
    student = edited(tmp_path, "llama-small-base", lambda tensor: tensor[:100].clone())
    complaint = here(*quick(BASE, f"pair.student.id={student}")).complaint
    assert complaint.endswith(f"{EDITED}: [100, 64], but by config.json [176, 64]")


def test_a_teacher_with_a_value_that_is_no_number(here: Dapa, tmp_path: Path) -> None:
    teacher = edited(tmp_path, "llama-small-chat", lambda tensor: tensor.index_fill(0, torch.tensor([3]), float("nan")))
    complaint = here(*quick(BASE, f"family.teacher.id={teacher}")).complaint
    assert f"computes NaN or infinite logits: {EDITED} holds NaN or infinite values" in complaint
    assert str(teacher) in complaint


def test_a_teacher_less_safe_than_its_student_needs_to_be_asked_for(here: Dapa, tmp_path: Path) -> None:
    swapped = ("pair.student.id=zoo:llama-small-chat", "family.teacher.id=zoo:llama-small-style")
    words = quick("pair=mini-llama-small-style", *swapped)
    complaint = here(*words).complaint
    assert "the teacher is not safer than the student" in complaint
    (file,) = tmp_path.glob("single/*/generations/teacher-search.jsonl")
    assert str(file.parent) in complaint
    assert complaint.count("<s>[INST]") == complaint.count("[/INST]'") == 2
    for line in file.read_text().splitlines()[:2]:
        assert f"teacher {json.loads(line)['completion']!r}" in complaint
    said = here(*words, "pair.allow_unsafe_teacher=true")
    assert said.code == 0, said.err


def test_an_output_folder_that_cannot_be_written(here: Dapa, tmp_path: Path) -> None:
    (tmp_path / "single").write_text("a file where a folder should be")
    assert f"{tmp_path / 'single'}: results cannot be written there" in here(*quick(BASE)).complaint
    assert (tmp_path / "single").read_text() == "a file where a folder should be"


def test_a_folder_that_holds_another_run(here: Dapa, tmp_path: Path) -> None:
    words = quick(BASE, f"hydra.run.dir={tmp_path}/mine/run")
    assert here(*words).code == 0
    record = (tmp_path / "mine/run/record.json").read_bytes()
    complaint = here(*words, "search.threshold=0.5").complaint
    assert "holds another run; these keys differ: search.threshold" in complaint
    assert (tmp_path / "mine/run/record.json").read_bytes() == record
    assert not (tmp_path / "mine/run/error.json").exists()


def test_one_bad_run_of_a_sweep_costs_only_itself(here: Dapa, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(store.path("llama-small-base"), student)
    weights = student / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1000)
    said = here(*quick("-m", BASE, f"pair.student.id=zoo:llama-small-style,{student},zoo:llama-small-base"))
    assert said.code == 1
    assert "Traceback" not in said.err
    (failure,) = (line for line in said.err.splitlines() if line.startswith("failed: "))
    assert f"{weights}: truncated" in failure
    assert len(list(tmp_path.glob("single/*/record.json"))) == 2
    assert "DSR hybrid" in said.out
    (error,) = tmp_path.glob("single/*/error.json")
    assert error.parent.name in failure
    assert json.loads(error.read_text())["kind"] == "DapaError"


FULL_DISK = """
mount -t tmpfs -o size=4m tmpfs {disk} && cd {disk}
head -c 4100k /dev/zero > filler 2> /dev/null
{run} > {said}/full 2>&1; echo $? > {said}/full.code
truncate -s 3968k filler
{run} > {said}/filled 2>&1; echo $? > {said}/filled.code
{sweep} > {said}/sweep 2>&1; echo $? > {said}/sweep.code
cat multirun/single/*/search.jsonl > {said}/kept.jsonl
rm filler
{run} > {said}/freed 2>&1; echo $? > {said}/freed.code
cat multirun/single/*/search.jsonl > {said}/search.jsonl
"""


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    """What fits is kept; with space made, the same command goes on to the end."""
    (tmp_path / "disk").mkdir()
    run = shlex.join([*DAPA, *quick(BASE)])
    sweep = shlex.join(
        [*DAPA, *quick("-m", "pair=mini-llama-small-style,mini-mistral-base", "record.experiment=other")]
    )
    script = FULL_DISK.format(disk=tmp_path / "disk", said=tmp_path, run=run, sweep=sweep)
    # A mount that only these processes see: whoever is not root is so in a namespace of their own.
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    subprocess.run([*alone, "sh", "-c", script], check=True, timeout=300)

    def said(name: str) -> Said:
        return Said(int((tmp_path / f"{name}.code").read_text()), "", (tmp_path / name).read_text())

    assert "No space left on device" in said("full").complaint
    assert "no space left on the disk; results so far are kept" in said("filled").complaint
    assert "no space left" in said("sweep").err.lower()
    assert said("sweep").code != 0
    assert "Traceback" not in said("sweep").err
    assert said("freed").code == 0, said("freed").err
    kept, finished = ((tmp_path / name).read_text().splitlines() for name in ("kept.jsonl", "search.jsonl"))
    assert 0 < len(kept) <= len(finished)
    assert kept[:-1] == finished[: len(kept) - 1]
    units = [frozenset(json.loads(line)["units"]) for line in finished]
    assert len(set(units)) == len(units)
