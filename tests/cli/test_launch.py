"""Runs are handed to Hydra as they were composed, whatever launcher a user chooses."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.composer import Composer
from dapa_exp.cli.dispatch import main
from dapa_exp.sweep.on_ray import run_on_ray
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from tests.commands import dapa
from tests.settings import QUICK
from tests.transplant.finished import sharded

BASE = "pair=mini-llama-small-base"
SWEEP = ("run", "-m", *QUICK, BASE, "search=none,all")


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build(["llama-small-base", "llama-small-chat"], silent)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """The command runs in a folder of its own; what Hydra is asked to compose is noted."""
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, ...]] = []
    for name in ("view", "load_configuration"):
        original = getattr(Composer, name)

        def noted(self: Composer, *given: Any, original: Any = original, **named: Any) -> Any:
            words = next(value for value in (*given, *named.values()) if isinstance(value, list))
            asked.append(tuple(words))
            return original(self, *given, **named)

        monkeypatch.setattr(Composer, name, noted)
    return asked


def records(folder: Path) -> set[str]:
    return {
        json.loads(file.read_text())["search"]["algorithm"] for file in folder.glob("multirun/single/*/record.json")
    }


def test_a_sweep_is_composed_once(composed: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert main(list(SWEEP)) == 0
    assert records(tmp_path) == {"none", "all"}
    of_a_run = [words for words in composed if "search=none" in words or "search=all" in words]
    assert len(of_a_run) == len(set(of_a_run)) == 2
    assert "search=none,all" in (tmp_path / "multirun/single/multirun.yaml").read_text()


def test_a_single_run_is_composed_once_and_leaves_hydras_files(composed: list[tuple[str, ...]], tmp_path: Path) -> None:
    words = ["run", *QUICK, BASE, "search=none"]
    assert main([*words, "hydra.job.chdir=true", "record.dir=results"]) == 0
    assert len([asked for asked in composed if "hydra.mode=RUN" in asked]) == 1
    (folder,) = tmp_path.glob("results/single/*none*")
    assert {file.name for file in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "- search=none" in (folder / ".hydra" / "overrides.yaml").read_text()
    assert Path.cwd() == tmp_path


def test_a_checkpoint_beside_one_is_found_where_hydra_changes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink(store.path("llama-small-base"), tmp_path / "mine")
    words = ["run", *QUICK, BASE, "pair.student.id=./mine", "search=none", "hydra.job.chdir=true"]
    assert main(words) == 0
    assert records(tmp_path) == {"none"}


def test_hydras_own_launcher_carries_out_the_same_runs_and_skips_what_is_done(
    composed: list[tuple[str, ...]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*SWEEP, "hydra/launcher=basic", "hydra.sweep.dir=multirun/single/", "hydra.verbose=false"]
    assert main(words) == 0
    assert records(tmp_path) == {"none", "all"}
    said = capfd.readouterr()
    assert "Launching 2 jobs locally" in said.out
    assert main([*SWEEP[:-1], "search=none,all,fixed", "hydra/launcher=basic"]) == 0
    assert "Launching 1 jobs locally" in capfd.readouterr().out
    assert records(tmp_path) == {"none", "all", "fixed"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher"),
        ("ray", "ray"),
    ],
)
def test_launchers_that_are_installed_beside(launcher: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    said = dapa(*SWEEP, f"hydra/launcher={launcher}", cwd=tmp_path)
    assert said.code == 0, said.err
    assert records(tmp_path) == {"none", "all"}
    assert "2 of 2 runs done" in said.out


def test_a_launcher_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DapaError, match=r"needs ray: pip install 'dapa_exp\[ray\]'"):
        run_on_ray([], {}, silent)


def test_a_run_that_fails_under_hydras_own_launcher_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "-m", *QUICK, BASE, "search=random,none", "search.k=500", "hydra/launcher=basic"]
    assert main(words) == 1
    assert records(tmp_path) == {"none"}
    said = capfd.readouterr()
    assert "search.k: cannot draw 500 of" in said.err
    assert "failed: mini-llama-small-base-mlp-random" in said.err
    assert "DSR" in said.out


@pytest.mark.parametrize("kept", ["local", "wandb"])
def test_a_finished_run_needs_neither_torch_nor_a_folder_of_its_own_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", *QUICK, BASE, "search=none", f"record={kept}"]
    assert main(words) == 0
    (record,) = tmp_path.glob("multirun/single/*/record.json")
    others = {"report", "logs"}  # the logs of W&B's service, which goes on writing
    files = [file for file in record.parent.rglob("*") if others.isdisjoint(file.parts)]
    before = {file: file.stat().st_mtime_ns for file in files}
    monkeypatch.setattr("dapa_exp.execute.execute", None)  # whoever calls it fails
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_what_a_job_is_to_find_in_its_environment_reaches_isolated_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str | None] = []
    Composer()  # Hydra imports its plugins anew where it looks for them first
    plugin = import_module("hydra_plugins.isolated_launcher")
    monkeypatch.setattr(plugin, "run_isolated", lambda *_: seen.append(os.environ.get("MINE")))
    main([*SWEEP, "+hydra.job.env_set.MINE=yes"])
    assert seen == ["yes"]
    assert "MINE" not in os.environ


def test_nothing_starts_where_the_hub_is_needed_and_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that is missing is said, at once; a run by itself would try for a while, and name one thing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    words = ["run", "-m", "pair=llama2-7b-hf,gemma-2b-base", "dataset=advbench128", "judge=chat", "runtime=cpu"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "nothing was started:" in said
    for missing in ("meta-llama/Llama-2-7b-hf", "google/gemma-2b", "walledai/AdvBench", "OPENAI_API_KEY"):
        assert missing in said
    assert len(said.splitlines()) == 3
    assert not (tmp_path / "multirun").exists()


def test_a_device_that_is_not_there_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "-m", *QUICK, BASE, "search=none,all", "runtime.device=cuda:77"]) == 2
    assert "runtime.device=cuda:77: there is no such device here" in capfd.readouterr().err
    assert not (tmp_path / "multirun").exists()


def test_a_pair_of_an_unknown_architecture_is_a_line_of_a_check(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever checks a sweep learns of every pair."""
    for name in ("one", "two"):
        folder = sharded(tmp_path / name, "llama", 1)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": f"lama{name}"}))
    assert main(["check", "-m", f"pair.student.id={tmp_path}/one,{tmp_path}/two", f"record.dir={tmp_path}"]) == 1
    lines = [
        line for line in capfd.readouterr().out.splitlines() if line.startswith("problem: mini-llama-small-style: ")
    ]
    assert ["lamaone" in line for line in lines] == [True, False]
    assert ["lamatwo" in line for line in lines] == [False, True]
