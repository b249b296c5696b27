"""Checkpoints from a hub: fetched once, whole or not at all, and every refusal in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress
from dapa_exp.config.models import Model
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.tensors import TensorReader
from tests.hub.look_alike import Files, Hub, files_of
from tests.tiny import tiny_checkpoint

NAME = "some/model"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint of 1.4 MB."""
    return files_of(tiny_checkpoint(tmp_path_factory.mktemp("tiny"), "llama", 1, vocab_size=20_000))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "dapa"))


def model(revision: str | None = None) -> Model:
    return Model(id=NAME, revision=revision)


def complaint(revision: str | None = None) -> str:
    with pytest.raises(DapaError) as caught:
        locate(model(revision), weights=True)
    return str(caught.value)


def assert_nothing_looks_whole(tmp_path: Path) -> None:
    """Neither the weights nor a part of them lie where anything would take them for whole."""
    assert not list(tmp_path.rglob(WEIGHTS))
    assert not [blob for blob in tmp_path.rglob("blobs/*") if blob.stat().st_size > 100_000]


def test_a_checkpoint_is_fetched_once(hub: Hub, files: Files) -> None:
    hub.add(NAME, {**files, "optimizer.bin": b"not read"})
    folder = locate(model(), weights=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert len(TensorReader(folder).tensors) == 30
    hub.asked.clear()
    assert locate(model(), weights=True) == folder
    assert hub.downloads() == []


def test_configs_come_without_weights(hub: Hub, files: Files) -> None:
    hub.add(NAME, files)
    assert not (locate(model(), weights=False) / WEIGHTS).exists()


def test_pickled_weights_are_fetched_only_where_there_are_no_others(hub: Hub, files: Files, tmp_path: Path) -> None:
    pickle = "pytorch_model.bin"
    torch.save(load_file(tiny_checkpoint(tmp_path / "tiny", "llama", 1) / WEIGHTS), tmp_path / pickle)
    allowed = Model(id=NAME, revision=None, allow_pickle=True)
    hub.add(NAME, {**files, pickle: (tmp_path / pickle).read_bytes()})
    assert {file.name for file in locate(allowed, weights=True).iterdir()} == files.keys()
    others = files_of(tmp_path / "tiny")
    del others[WEIGHTS]
    hub.add(NAME, {**others, pickle: (tmp_path / pickle).read_bytes()})
    assert len(TensorReader(locate(allowed, weights=True)).tensors) == 30


def test_a_pinned_revision_stays_where_main_moves(hub: Hub, files: Files) -> None:
    pinned, newest = hub.add(NAME, files, {**files, "generation_config.json": b"{}"})
    assert locate(model(pinned), weights=True).name == pinned
    assert locate(model(), weights=True).name == newest
    assert len([path for path in hub.downloads() if path.endswith(WEIGHTS)]) == 1  # the same content, by its ETag
    hub.asked.clear()
    locate(model(pinned), weights=True)
    assert hub.asked == []


def test_what_cannot_be_read_is_told_with_what_to_do(hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint() == f"{NAME}: not on the hub ({hub.url}/{NAME}), or private and no token is set"
    hub.add(NAME, files, tokens={"right"})
    assert complaint("no-such") == f"{NAME}@no-such: the repository has no such revision"
    assert complaint() == f"{NAME}: gated: accept its licence at {hub.url}/{NAME} and log in (hf auth login)"
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert complaint() == (
        f"{NAME}: gated: accept its licence at {hub.url}/{NAME} with the account of the token that is set"
    )
    monkeypatch.setenv("HF_TOKEN", "right")
    assert locate(model(), weights=True).is_dir()


def test_a_gguf_file_that_is_not_there(hub: Hub, files: Files) -> None:
    hub.add(NAME, files)
    with pytest.raises(DapaError, match=r"some/model/q4\.gguf: the repository has no such file"):
        locate(Model(id=f"{NAME}/q4.gguf", revision=None), weights=True)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, files: Files) -> None:
    hub.add(NAME, files)
    hub.breaks[WEIGHTS] = [400_000, 300_000]
    folder = locate(model(), weights=True)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and path.endswith(WEIGHTS)]
    assert ranges == [None, "bytes=400000-", "bytes=700000-"]


@pytest.mark.slow
def test_one_that_stays_broken_leaves_nothing_that_looks_whole(hub: Hub, files: Files, tmp_path: Path) -> None:
    hub.add(NAME, files)
    hub.breaks[WEIGHTS] = [400_000] + [0] * 20
    assert "cannot be reached" in complaint()
    assert_nothing_looks_whole(tmp_path)
    small = [path for path in hub.downloads() if path.endswith("config.json")]
    del hub.breaks[WEIGHTS]
    assert (locate(model(), weights=True) / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [path for path in hub.downloads() if path.endswith("config.json")] == small  # what was whole is kept


@pytest.mark.slow
def test_a_hub_that_falls_silent_is_given_up(hub: Hub, files: Files, tmp_path: Path) -> None:
    hub.add(NAME, files)
    hub.stalls.add(f"content of {WEIGHTS}")
    assert "cannot be reached (ReadTimeout" in complaint()
    assert_nothing_looks_whole(tmp_path)


@pytest.mark.parametrize("wrong", ["other bytes", "fewer bytes"])
def test_other_content_than_the_hub_names_is_refused_and_fetched_again(
    hub: Hub, files: Files, tmp_path: Path, wrong: str
) -> None:
    hub.add(NAME, files)
    content = files[WEIGHTS]
    hub.lies[WEIGHTS] = content[:-1] + bytes([content[-1] ^ 1]) if wrong == "other bytes" else content[:-1000]
    said = "another SHA-256" if wrong == "other bytes" else "should be of size"
    assert said in complaint()
    assert_nothing_looks_whole(tmp_path)
    hub.lies.clear()
    assert (locate(model(), weights=True) / WEIGHTS).read_bytes() == content


def test_a_cached_checkpoint_needs_no_hub(hub: Hub, files: Files) -> None:
    hub.add(NAME, files)
    folder = locate(model(), weights=True)
    hub.repositories.clear()
    (commit,) = (path.name for path in folder.parent.iterdir())
    assert locate(model(commit), weights=True) == folder


def test_progress_is_ours(hub: Hub, files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    hub.add(NAME, files)
    told: list[Progress] = []
    locate(model(), weights=True, report=told.append)
    last = [progress for progress in told if progress.task == f"{NAME}: download"][-1]
    assert (last.done, last.total) == (len(files[WEIGHTS]) // 10**6, len(files[WEIGHTS]) // 10**6)
    assert "MB/s" in last.note
    said = capfd.readouterr()
    assert "it/s" not in said.err + said.out
    assert os.linesep not in said.out
