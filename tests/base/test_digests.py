"""Digests are remembered for as long as a file is the same one, and no longer."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from dapa_exp.base.digests import _digest_of, file_digest, folder_digest

KEPT_TIME = 315_532_800  # 1980, which archives that are made alike each time say of every file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for content in (b"one fine-tune", b"and other one"):
        (tmp_path / "unpacked").write_bytes(content)
        os.utime(tmp_path / "unpacked", (KEPT_TIME, KEPT_TIME))
        (tmp_path / "unpacked").replace(file)
        assert file_digest(file) == hashlib.sha256(content).hexdigest()
        time.sleep(0.02)  # the clock of a file system ticks a few hundred times a second


def test_a_file_is_read_once(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    known = file_digest(file)
    (kept,) = (cache / "digests").iterdir()
    kept.write_text("f" * len(known))
    _digest_of.cache_clear()  # as another process would find it
    assert file_digest(file) == "f" * len(known)


def test_weights_in_a_folder_of_their_own_count(tmp_path: Path) -> None:
    (tmp_path / "model" / "shards").mkdir(parents=True)
    shard_of = {"a": "shards/1.safetensors", "b": "shards/2.safetensors"}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shard_of}))
    digests = set()
    for content in (b"one fine-tune", b"and other one"):
        (tmp_path / "model" / "shards" / "1.safetensors").write_bytes(content)
        digests.add(folder_digest(tmp_path / "model"))
        time.sleep(0.02)
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "qwen.tiktoken", "additional_chat_templates/rag.jinja"])
def test_every_file_that_shapes_a_prompt_counts_and_notes_do_not(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    digests = {folder_digest(folder)}
    (folder / "LICENSE.txt").write_text("as is")
    digests.add(folder_digest(folder))
    assert len(digests) == 1
    (folder / name).write_text("a b")
    digests.add(folder_digest(folder))
    assert len(digests) == 2
