"""A checkpoint is uploaded with its card by the hub's own client, and comes down again as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.cli.dispatch import main
from tests.hub.look_alike import Hub, files_of
from tests.transplant.finished import config_of, finish, sharded


@pytest.fixture
def run(tmp_path: Path) -> Path:
    teacher, student = (sharded(tmp_path / name, "llama", seed) for seed, name in enumerate(("teacher", "student")))
    return finish(tmp_path / "run", config_of(teacher, student), ["layers.1.mlp"])


def test_an_exported_model_is_uploaded_with_its_card(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    out = tmp_path / "out"
    for _ in range(2):  # the second time, the checkpoint is there already
        assert main(["export", str(run), str(out), "--push", "me/aligned"]) == 0
    assert f"uploaded: {hub.url}/me/aligned" in capsys.readouterr().out
    repository = hub.repositories["me/aligned"]
    assert repository.commits[repository.branches["main"]] == files_of(out)
    assert "README.md" in files_of(out)
    assert hub.private == {"me/aligned"}


def test_a_push_without_a_token_says_so_and_keeps_the_checkpoint(
    hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "out"), "--push", "me/aligned"]) == 2
    assert "me/aligned: " in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").is_file()
    assert main(["export", str(run), str(tmp_path / "patch.safetensors"), "--push", "me/aligned"]) == 2
    assert "only a checkpoint is uploaded" in capsys.readouterr().err
