"""What is exported is the student but for the transplanted tensors, bit for bit, or an error and nothing at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.base.digests import folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.export import apply_command, export_command
from dapa_exp.models.tensors import INDEX, TensorReader, tensor_digest
from dapa_exp.record.schema import Record
from dapa_exp.transplant.export import fill, place
from dapa_exp.transplant.export.card import model_card
from dapa_exp.transplant.export.export import apply, export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.export.manifest import MANIFEST, Manifest
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from tests.tiny import CONFIGS, model_at
from tests.transplant.finished import config_of, finish, sharded

CHOSEN = ["layers.0.mlp", "layers.2.mlp"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Teacher and student, never written to by a test."""
    root = tmp_path_factory.mktemp("pair")
    return sharded(root / "teacher", "llama", 1), sharded(root / "student", "llama", 2)


@pytest.fixture(scope="module")
def run(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("run"), config_of(*pair), CHOSEN)


@pytest.fixture
def own(pair: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """Teacher, student and finished run of a test that breaks some of it."""
    teacher, student = (shutil.copytree(folder, tmp_path / folder.name) for folder in pair)
    return teacher, student, finish(tmp_path / "run", config_of(teacher, student), CHOSEN)


def moved(name: str) -> bool:
    return ".mlp." in name and (".0." in name or ".2." in name)


def assert_hybrid(out: Path, teacher: Path, student: Path) -> None:
    """Same files, headers and bytes as the student's, but for the teacher's tensors in the chosen units."""
    ours, theirs, teachers = TensorReader(out), TensorReader(student), TensorReader(teacher)
    assert set(ours) == set(theirs)
    for name in ours:
        a, b = ours.tensors[name], theirs.tensors[name]
        assert (a.shape, a.dtype, a.file.name) == (b.shape, b.dtype, b.file.name)
        source = teachers if moved(name) else theirs
        assert tensor_digest(ours.read(name)) == tensor_digest(source.read(name).to(ours.read(name).dtype)), name
    for file in student.glob("*.safetensors"):
        length = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert (out / file.name).read_bytes()[:length] == file.read_bytes()[:length]
    for name in ("config.json", "generation_config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert (out / name).read_bytes() == (student / name).read_bytes()


def assert_nothing_left(folder: Path, *expected: str) -> None:
    assert {file.name for file in folder.iterdir()} == set(expected)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_checkpoint_is_the_student_with_the_teachers_units(tmp_path: Path, family: str) -> None:
    teacher, student = sharded(tmp_path / "teacher", family, 1), sharded(tmp_path / "student", family, 2)
    assert len(list(student.glob("*.safetensors"))) > 2
    run = finish(tmp_path / "run", config_of(teacher, student, family=family), CHOSEN)
    assert export_command([str(run), str(tmp_path / "out")]) == 0
    assert_hybrid(tmp_path / "out", teacher, student)


def test_transformers_loads_the_checkpoint_as_the_hybrid(pair: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    export(open_finished(run), tmp_path / "out", "checkpoint")
    teacher, student, hybrid = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (*pair, tmp_path / "out")
    )
    for name, tensor in hybrid.items():
        assert torch.equal(tensor, (teacher if moved(name) else student)[name]), name
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    GenerationConfig.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("kind", ["checkpoint", "patch"])
def test_shards_in_a_folder_of_their_own_are_exported_there(tmp_path: Path, kind: str) -> None:
    teacher, student = sharded(tmp_path / "teacher", "llama", 1), sharded(tmp_path / "student", "llama", 2)
    index, shards = student / INDEX, sorted(student.glob("*.safetensors"))
    shard_of = json.loads(index.read_text())["weight_map"]
    (student / "shards").mkdir()
    for shard in shards:
        shard.rename(student / "shards" / shard.name)
    inside = {name: f"shards/{shard}" for name, shard in shard_of.items()}
    index.write_text(json.dumps({"metadata": {}, "weight_map": inside}))
    run = open_finished(finish(tmp_path / "run", config_of(teacher, student), CHOSEN))
    out = tmp_path / "out"
    if kind == "patch":
        export(run, tmp_path / "a.safetensors", "patch")
        apply(tmp_path / "a.safetensors", model_at(student), out)
    else:
        export(run, out, "checkpoint")
    hybrid, theirs, ours = (TensorReader(folder) for folder in (out, teacher, student))
    for name in hybrid:
        assert torch.equal(hybrid.read(name), (theirs if moved(name) else ours).read(name)), name
    assert not list(out.glob("*.safetensors"))


def test_a_patch_holds_the_changed_tensors_alone_and_gives_the_checkpoint(
    pair: tuple[Path, Path], run: Path, tmp_path: Path
) -> None:
    patch, direct, applied = tmp_path / "patch.safetensors", tmp_path / "direct", tmp_path / "applied"
    assert export_command([str(run), str(patch)]) == 0
    assert export_command([str(run), str(direct)]) == 0
    assert apply_command([str(patch), str(pair[1]), str(applied)]) == 0
    tensors = load_file(patch)
    assert {name for name in TensorReader(pair[1]) if moved(name)} == set(tensors)
    assert patch.stat().st_size < sum(tensor.nbytes for tensor in tensors.values()) + 20_000
    assert {file.name for file in direct.iterdir()} == {file.name for file in applied.iterdir()}
    for file in direct.iterdir():
        assert file.read_bytes() == (applied / file.name).read_bytes(), file.name


def test_what_the_zoo_knows_of_a_student_does_not_go_along(own: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, student, _ = own
    (student / "manifest.json").write_text("{}")
    (student / "added_tokens.json").write_text("{}")
    run = finish(tmp_path / "again", config_of(own[0], student), CHOSEN)
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert (tmp_path / "out" / "added_tokens.json").is_file()
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_manifest_says_what_was_changed(pair: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    export(open_finished(run), tmp_path / "out", "checkpoint")
    manifest = Manifest.model_validate_json((tmp_path / "out" / MANIFEST).read_text())
    teacher = TensorReader(pair[0])
    assert manifest.tensors == {name: tensor_digest(teacher.read(name)) for name in teacher if moved(name)}
    assert manifest.transplant == {"method": "copy"}
    assert manifest.record.search.units_found == CHOSEN


def test_the_card_states_pair_units_and_numbers_with_what_they_rest_on(run: Path, tmp_path: Path) -> None:
    export(open_finished(run), tmp_path / "out", "checkpoint")
    card = (tmp_path / "out" / "README.md").read_text()
    record = open_finished(run).record
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    for expected in (
        record.pair.teacher.id,
        "`layers.0.mlp`, `layers.2.mlp`",
        "95 % (91–99; n = 40)",
        "**Made here**",
        "teacher's licence applies",
        record.identity,
    ):
        assert expected in card


def test_the_card_says_how_the_model_was_asked(run: Path) -> None:
    opened = open_finished(run)
    record = opened.record
    asked = record.model_copy(
        update={
            "pair": record.pair.model_copy(update={"thinking": False}),
            "provenance": record.provenance.model_copy(update={"system_prompt": 'Be "kind".'}),
        }
    )
    manifest = Manifest(version=1, student_files={}, tensors={}, transplant={}, chat_template=None, record=asked)
    card = model_card(manifest)
    assert '- measured with the system prompt "Be \\"kind\\"."' in card
    assert "- measured with enable_thinking=false in the chat template" in card
    assert "measured with" not in model_card(manifest.model_copy(update={"record": record}))


def test_the_card_names_the_repository_of_a_gguf_file(run: Path, tmp_path: Path) -> None:
    export(open_finished(run), tmp_path / "out", "checkpoint")
    manifest = Manifest.model_validate_json((tmp_path / "out" / MANIFEST).read_text())
    student = manifest.record.pair.student.model_copy(update={"id": "me/llama-GGUF/llama.Q8_0.gguf"})
    pair = manifest.record.pair.model_copy(update={"student": student})
    card = model_card(manifest.model_copy(update={"record": manifest.record.model_copy(update={"pair": pair})}))
    assert yaml.safe_load(card.split("---")[1])["base_model"] == ["me/llama-GGUF"]
    assert "me/llama-GGUF/llama.Q8_0.gguf" in card


def test_what_was_measured_in_another_dtype_is_saved_in_the_students(tmp_path: Path) -> None:
    teacher = sharded(tmp_path / "teacher", "llama", 1, torch.float32)
    student = sharded(tmp_path / "student", "llama", 2, torch.bfloat16)
    run = finish(tmp_path / "run", config_of(teacher, student, "runtime.dtype=float32"), CHOSEN)
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert_hybrid(tmp_path / "out", teacher, student)
    export(open_finished(run), tmp_path / "patch", "patch")
    apply_command([str(tmp_path / "patch"), str(student), str(tmp_path / "applied")])
    assert_hybrid(tmp_path / "applied", teacher, student)


def test_the_teachers_chat_template_goes_along_where_it_was_used(tmp_path: Path) -> None:
    teacher, student = sharded(tmp_path / "teacher", "llama", 1), sharded(tmp_path / "student", "llama", 2)
    (teacher / "chat_template.jinja").write_text("the teacher's")
    run = finish(tmp_path / "run", config_of(teacher, student, "pair.chat_template=teacher"), CHOSEN)
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == "the teacher's"
    export(open_finished(run), tmp_path / "recipe.yaml", "mergekit")
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["chat_template"] == "the teacher's"


def test_the_tokens_that_ended_answers_end_the_exported_models_too(
    pair: tuple[Path, Path], run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    file = run / "record.json"
    record = Record.model_validate_json(file.read_text())
    ended = record.pair.model_copy(update={"end_tokens": [2, 7]})
    file.write_text(record.model_copy(update={"pair": ended}).model_dump_json())
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == [2, 7]
    before = json.loads((pair[1] / "generation_config.json").read_text())
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {**before, "eos_token_id": [2, 7]}


def test_of_several_chat_templates_the_one_that_was_used_goes_along(tmp_path: Path) -> None:
    teacher, student = sharded(tmp_path / "teacher", "llama", 1), sharded(tmp_path / "student", "llama", 2)
    for folder in (teacher, student):
        (folder / "chat_template.jinja").unlink()
    file = teacher / "tokenizer_config.json"
    several = [{"name": name, "template": f"the teacher's {name}"} for name in ("tool_use", "default")]
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": several}))
    run = finish(tmp_path / "run", config_of(teacher, student, "pair.chat_template=teacher"), CHOSEN)
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == "the teacher's default"


@pytest.mark.parametrize(("granularity", "method"), [("layer", "passthrough"), ("mlp", "linear")])
def test_a_recipe_names_each_layer_once_and_each_moved_tensor(
    pair: tuple[Path, Path], tmp_path: Path, granularity: str, method: str
) -> None:
    chosen = ["layers.1"] if granularity == "layer" else ["layers.1.mlp"]
    run = finish(tmp_path / "run", config_of(*pair, f"granularity={granularity}"), chosen)
    assert export_command([str(run), str(tmp_path / "recipe.yaml")]) == 0
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert (recipe["merge_method"], recipe["dtype"]) == (method, "float32")
    ranges = [part["sources"][0]["layer_range"] for part in recipe["slices"]]
    assert ranges == [[0, 0], [0, 1], [1, 2], [2, 3], [0, 0]]
    sources = recipe["slices"][2]["sources"]
    assert sources[-1]["model"] == str(pair[0].resolve())
    if method == "linear":
        weights = sources[-1]["parameters"]["weight"]
        projections = [f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        expected: dict[str | None, float] = {**dict.fromkeys(projections, 1.0), None: 0.0}
        assert {weight.get("filter"): weight["value"] for weight in weights} == expected


def test_a_patch_is_applied_to_a_student_that_is_converted(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(pair[1]), settings).save_pretrained(str(adapter))
    run = open_finished(finish(tmp_path / "run", config_of(pair[0], adapter), CHOSEN))
    for kind in ("patch", "checkpoint"):
        export(run, tmp_path / kind, kind)
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "another machine's"))
    monkeypatch.chdir(tmp_path)
    assert apply_command(["patch", "adapter", "applied"]) == 0
    direct, applied = TensorReader(tmp_path / "checkpoint"), TensorReader(tmp_path / "applied")
    assert {n: tensor_digest(direct.read(n)) for n in direct} == {n: tensor_digest(applied.read(n)) for n in applied}


def test_a_patch_is_applied_to_a_student_by_its_name_in_the_zoo(tmp_path: Path) -> None:
    build(["llama-small-base", "llama-small-chat"], silent)
    teacher, student = "zoo:llama-small-chat", "zoo:llama-small-base"
    words = [f"pair.student.id={student}", f"family.teacher.id={teacher}", "granularity=mlp"]
    run = open_finished(finish(tmp_path / "run", jobs(words)[0].config, CHOSEN))
    for kind in ("patch", "checkpoint"):
        export(run, tmp_path / kind, kind)
    assert apply_command([str(tmp_path / "patch"), student, str(tmp_path / "applied")]) == 0
    direct, applied = TensorReader(tmp_path / "checkpoint"), TensorReader(tmp_path / "applied")
    assert {n: tensor_digest(direct.read(n)) for n in direct} == {n: tensor_digest(applied.read(n)) for n in applied}
    with pytest.raises(DapaError, match="zoo:llama-small-chat is not zoo:llama-small-base, for which the patch"):
        apply_command([str(tmp_path / "patch"), teacher, str(tmp_path / "other")])
    with pytest.raises(DapaError, match="llama-smal"):
        apply_command([str(tmp_path / "patch"), "zoo:llama-smal-base", str(tmp_path / "other")])


def test_another_student_is_refused_by_name_of_the_file(pair: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    export(open_finished(run), tmp_path / "patch", "patch")
    other = shutil.copytree(pair[1], tmp_path / "other")
    first = sorted(other.glob("*.safetensors"))[0]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    (other / "config.json").write_text("{}")
    with pytest.raises(DapaError, match=rf"config.json: other content \(SHA-256\)\n  {first.name}: other content"):
        apply_command([str(tmp_path / "patch"), str(other), str(tmp_path / "out")])
    assert_nothing_left(tmp_path, "patch", "other")


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_torn_patch_is_refused(pair: tuple[Path, Path], run: Path, tmp_path: Path, keep: int) -> None:
    patch = tmp_path / "patch"
    export(open_finished(run), patch, "patch")
    patch.write_bytes(patch.read_bytes()[:keep])
    with pytest.raises(DapaError, match="not a whole patch"):
        apply_command([str(patch), str(pair[1]), str(tmp_path / "out")])
    assert_nothing_left(tmp_path, "patch")


def test_a_patch_with_a_changed_bit_is_refused(pair: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    patch = tmp_path / "patch"
    export(open_finished(run), patch, "patch")
    content = bytearray(patch.read_bytes())
    content[-1] ^= 1
    patch.write_bytes(content)
    with pytest.raises(DapaError, match=r"not the tensor that the patch was made with \(another digest\)"):
        apply_command([str(patch), str(pair[1]), str(tmp_path / "out")])
    assert_nothing_left(tmp_path, "patch")


def test_an_ordinary_safetensors_file_is_no_patch(pair: tuple[Path, Path], tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(DapaError, match="an ordinary safetensors file, not a patch"):
        apply_command([str(tmp_path / "a.safetensors"), str(pair[1]), str(tmp_path / "out")])


def test_a_checkpoint_that_changed_since_the_run_is_refused(own: tuple[Path, Path, Path], tmp_path: Path) -> None:
    teacher, _, run = own
    file = sorted(teacher.glob("*.safetensors"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DapaError, match="teacher"):
        export_command([str(run), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_no_loader_reads_may_come_and_change_beside_a_checkpoint(
    own: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    teacher, student, _ = own
    (teacher / store.MANIFEST).write_text('{"seconds": 71.3}')
    run = finish(tmp_path / "again", config_of(teacher, student), CHOSEN)
    (teacher / store.MANIFEST).write_text('{"seconds": 68.9}')
    for name in ("consolidated.safetensors", "pytorch_model.bin", "model-q8_0.gguf"):
        (teacher / name).write_bytes(b"the same weights for another tool")
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert_hybrid(tmp_path / "out", teacher, student)


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_a_checkpoint_whose_weights_alone_are_the_same_is_refused(
    own: tuple[Path, Path, Path], tmp_path: Path, file: str
) -> None:
    _, student, run = own
    (student / file).write_text((student / file).read_text() + " ")
    with pytest.raises(DapaError, match=r"student: not the student that the run was measured on"):
        export_command([str(run), str(tmp_path / "out")])


def test_records_whose_digest_is_of_everything_can_still_be_exported(
    own: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    teacher, student, run = own
    (teacher / store.MANIFEST).write_text('{"seconds": 71.3}')
    record = json.loads((run / "record.json").read_text())
    record["pair"]["teacher"]["digest"] = folder_digest(teacher)
    (run / "record.json").write_text(json.dumps(record))
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert_hybrid(tmp_path / "out", teacher, student)


def test_a_wrong_digest_in_the_run_is_refused(own: tuple[Path, Path, Path], tmp_path: Path) -> None:
    file = own[2] / "transplant.json"
    proof = json.loads(file.read_text())
    proof["transplanted"] = dict.fromkeys(proof["transplanted"], "0" * 64)
    file.write_text(json.dumps(proof))
    with pytest.raises(DapaError, match=r"transplant.json: was changed since the record was written"):
        export_command([str(own[2]), str(tmp_path / "out")])


def test_a_tensor_that_is_not_the_measured_one_is_refused(run: Path, tmp_path: Path) -> None:
    finished = open_finished(run)
    finished.expected.digests["model.layers.0.mlp.up_proj.weight"] = "0" * 64  # type: ignore[index]
    with pytest.raises(DapaError, match=r"0\.mlp\.up_proj\.weight: is not the tensor that the run measured"):
        export(finished, tmp_path / "out", "checkpoint")
    assert_nothing_left(tmp_path)


def test_a_missing_shard_is_refused(own: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, student, run = own
    finished = open_finished(run)
    export(finished, tmp_path / "patch", "patch")
    finished.pair.student.tensors["lm_head.weight"].file.unlink()
    with pytest.raises(DapaError, match="No such file"):
        export(finished, tmp_path / "out", "checkpoint")
    with pytest.raises(DapaError, match="shards are missing"):
        apply_command([str(tmp_path / "patch"), str(student), str(tmp_path / "out")])
    assert_nothing_left(tmp_path, "teacher", "student", "run", "patch")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_with_a_broken_number_is_never_finished(pair: tuple[Path, Path], tmp_path: Path, value: float) -> None:
    teacher = shutil.copytree(pair[0], tmp_path / "teacher")
    name = "model.layers.2.mlp.down_proj.weight"
    file = TensorReader(teacher).tensors[name].file
    tensors = load_file(file)
    tensors[name][3, 3] = value
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(DapaError, match=r"2\.mlp\.down_proj\.weight would hold NaN or infinite values"):
        finish(tmp_path / "run", config_of(teacher, pair[1]), CHOSEN)


@pytest.mark.parametrize("kind", ["checkpoint", "patch"])
def test_a_full_disk_is_told_before_and_while_writing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(fill.os, "pwrite", full)
        with pytest.raises(DapaError, match="no space left on the disk; nothing was kept"):
            export(open_finished(run), tmp_path / "out", kind)
    assert_nothing_left(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DapaError, match=r"are needed, and the disk has 0\.00 GB left"):
        export(open_finished(run), tmp_path / "out", kind)
    assert_nothing_left(tmp_path)


def test_files_are_copied_without_the_kernels_help_too(
    pair: tuple[Path, Path], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fill.os, "copy_file_range", raising=False)
    export(open_finished(run), tmp_path / "out", "checkpoint")
    assert_hybrid(tmp_path / "out", *pair)


@pytest.mark.parametrize("name", ["out", "out.yaml", "out.safetensors"])
def test_what_is_there_is_not_overwritten(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(DapaError, match="is there already"):
        export_command([str(run), str(tmp_path / name)])
    assert (tmp_path / name).read_text() == "mine"


def test_only_finished_runs_that_found_something_are_exported(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DapaError, match="not the folder of a run"):
        open_finished(tmp_path)
    run = finish(tmp_path / "run", config_of(*pair), [])
    with pytest.raises(DapaError, match="the run found nothing to transplant"):
        open_finished(run)
    (run / "record.json").unlink()
    with pytest.raises(DapaError, match="the run is not finished"):
        open_finished(run)


def test_a_misspelt_file_is_not_taken_for_a_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "aligned.safetensor"
    with pytest.raises(DapaError, match=r"no format ends in '\.safetensor'\. Did you mean '\.safetensors'\?"):
        export_command([str(run), str(out)])
    assert not out.exists()
    assert export_command([str(run), str(tmp_path / "llama-2.0-aligned")]) == 0
