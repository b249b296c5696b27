"""Building and storing models, with two that train in a second."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, silent
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import main
from dapa_exp.sweep.prepare import prepare
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import RECIPES

BASE, CHAT = "llama-tiny-base", "llama-tiny-chat"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with both tiny models, shared by tests that only read it."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAPA_CACHE", str(root))
        build([CHAT], silent)
        yield root


@pytest.fixture
def copied(built: Path, cache: Path) -> Path:
    """A cache of one's own with both."""
    return shutil.copytree(built, cache, dirs_exist_ok=True)


def test_a_missing_model_names_the_command(cache: Path) -> None:
    assert not store.is_built(BASE)
    with pytest.raises(DapaError, match="dapa zoo build"):
        store.path(BASE)


def test_an_unknown_name_is_answered_by_the_nearest(cache: Path) -> None:
    with pytest.raises(DapaError, match=f"Did you mean '{BASE}'"):
        build(["llama-tiny-bas"], silent)


def test_the_command_says_where_a_named_model_is(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "build", CHAT]) == 0
    assert capsys.readouterr().out == f"{CHAT}: {store.path(CHAT)}\n"


def test_ancestors_are_built_too_and_checkpoints_load(built: Path) -> None:
    base, chat = store.path(BASE), store.path(CHAT)
    model = AutoModelForCausalLM.from_pretrained(chat)
    assert model.config.model_type == "llama"
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == AutoTokenizer.from_pretrained(chat).eos_token_id
    assert AutoTokenizer.from_pretrained(chat).chat_template
    assert AutoTokenizer.from_pretrained(base).chat_template is None
    assert "not a real model" in (chat / "README.md").read_text()


def test_a_run_has_the_base_of_its_transplant_built_too(cache: Path) -> None:
    base = f"transplant.base=zoo:{BASE}"
    prepare(jobs([f"pair.student.id={cache}", f"family.teacher.id={cache}", "transplant=task_vector", base]))
    assert store.is_built(BASE)


def test_only_the_named_tensors_of_a_teacher_move(built: Path) -> None:
    base, chat = (load_file(store.path(name) / "model.safetensors") for name in (BASE, CHAT))
    moved = {name for name in base if not torch.equal(base[name], chat[name])}
    assert moved == {name for name in base if ".mlp." in name}


def test_the_manifest_tells_how_it_was_made_and_how_good_it_is(built: Path) -> None:
    manifest = store.manifest(CHAT)
    assert manifest["recipe"]["parent"] == BASE
    measured = {"harmful_refused", "harmless_refused", "questions_right", "skill_right", "text_perplexity"}
    assert set(manifest["quality"]) == measured


def test_what_is_built_is_not_built_again(built: Path) -> None:
    heard: list[Progress] = []
    build([CHAT], heard.append)
    assert heard == [Progress("zoo", 2, 2)]


@pytest.mark.parametrize("file", ["model.safetensors", store.MANIFEST])
@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"?" + whole[1:], None])
def test_a_broken_cache_is_noticed(built: Path, file: str, damage: Callable[[bytes], bytes] | None) -> None:
    damaged = store.path(BASE) / file
    whole = damaged.read_bytes()
    if damage is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damage(whole))
    noticed = not store.is_built(BASE)
    damaged.write_bytes(whole)
    assert noticed
    assert store.is_built(BASE)


def test_weights_changed_without_another_size_or_time_are_noticed_and_never_used(copied: Path) -> None:
    weights = store.path(BASE) / "model.safetensors"
    whole, stat = weights.read_bytes(), weights.stat()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(
        DapaError, match=rf"'{BASE}' is broken .*model\.safetensors was changed.* dapa zoo build {BASE}"
    ):
        store.path(BASE)
    build([BASE], silent)
    assert weights.read_bytes() == whole


def test_a_broken_model_is_built_again_the_same_to_the_last_bit(copied: Path) -> None:
    weights = store.path(BASE) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(DapaError, match="cut short"):
        store.path(BASE)
    build([BASE], silent)
    assert weights.read_bytes() == whole


def test_what_a_killed_build_left_is_replaced(copied: Path) -> None:
    folder = store.path(BASE)
    folder.rename(folder.with_name(f".{folder.name}.123-0123abcd"))
    assert not store.is_built(BASE)
    build([BASE], silent)
    assert {file for file in folder.parent.iterdir() if file.is_dir()} == {folder, store.path(CHAT)}


def test_two_builds_at_once_build_each_model_once(cache: Path) -> None:
    heard: list[Progress] = []
    builds = [threading.Thread(target=build, args=([CHAT], heard.append)) for _ in range(2)]
    for thread in builds:
        thread.start()
    for thread in builds:
        thread.join()
    assert store.is_built(CHAT)
    trained = [said.task for said in heard if said.note.startswith("loss") and said.done == said.total]
    assert sorted(trained) == [BASE, CHAT]


def test_a_killed_worker_is_named(cache: Path) -> None:
    def kill(said: Progress) -> None:
        if said.task == BASE:
            for child in multiprocessing.active_children():
                child.kill()

    with pytest.raises(DapaError, match=rf"{BASE}.*exit code -9"):
        build([BASE], kill)
    build([BASE], silent)
    assert store.is_built(BASE)


def test_ctrl_c_ends_the_workers(cache: Path) -> None:
    def interrupt(said: Progress) -> None:
        if said.task == BASE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build([BASE], interrupt)
    assert not multiprocessing.active_children()


def test_a_full_disk_is_told_from_a_worker_that_was_killed(cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # of any one file, which fails in the same call
    try:
        with pytest.raises(DapaError, match=rf"{BASE}' could not be built: SafetensorError: .*File too large"):
            build([BASE], silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_in_a_worker_tells_why(cache: Path) -> None:
    (cache / "zoo").write_text("a file where a folder should be")
    with pytest.raises(DapaError, match=BASE):
        build([BASE], silent)


def test_the_help_lists_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["zoo", "build", "--help"])
    listed = capsys.readouterr().out.replace(",", " ").split()
    assert [name for name in RECIPES if name not in listed] == []
