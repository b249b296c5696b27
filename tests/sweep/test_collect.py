"""What no record needs is found and removed, and nothing else."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from dapa_exp.base.claim import claims
from dapa_exp.cli.dispatch import main
from dapa_exp.record.folder import claim_folder
from dapa_exp.sweep import collect
from tests.analysis.factory import name_of, record, write_sweep


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_what_no_record_needs_is_removed_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [record(pair) for pair in "ab"]
    sweep = write_sweep(tmp_path, runs)
    idle, busy = (sweep / name_of(run) for run in runs)
    useless = [
        *(folder / name for folder in (idle, busy) for name in (".record.json.4711-0123abcd", ".lock")),
        *(idle / name for name in ("references/teacher.safetensors", "wandb/.staging.4711-0123abcd/a", ".claim-dead")),
        *(sweep / name for name in (".sweep.lock", ".submitit/12_0/12_0_0_log.err", ".sweep.json.4711-0123abcd")),
        *(sweep / "shared" / name for name in (".answers-0123-dead", "references/kl-0123")),
    ]
    needed = [
        sweep / "shared" / "answers-0123",
        idle / "wandb" / "offline-run-1-a" / "run.wandb",
        idle / "neurons.safetensors",
        idle / "run.log",
    ]
    for file in useless + needed:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("12345")
        os.utime(file, (0, 0))
    before = files(sweep)
    with claim_folder(busy):
        held = files(busy)
        assert main(["gc", str(sweep)]) == 0
        assert f"can be removed: dapa gc {sweep} --yes" in capsys.readouterr().out
        assert files(sweep) >= before
        assert main(["gc", str(sweep), "--yes"]) == 0
        assert files(busy) == held
    assert main(["gc", "--yes", str(sweep)]) == 0
    assert files(sweep) == before - set(useless)
    assert main(["gc", str(sweep)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to remove"


def test_a_run_that_begins_while_the_list_is_made_keeps_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record("a")
    sweep = write_sweep(tmp_path, [], [run])
    folder = sweep / name_of(run)
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:

        def begin_and_list(name: Path) -> list[Path]:
            stack.enter_context(claim_folder(folder))
            return claims(name)

        monkeypatch.setattr(collect, "claims", begin_and_list)
        assert main(["gc", str(sweep), "--yes"]) == 0
        assert list(folder.glob(".claim-*"))
