"""The `dapa` command: every verb is there, and a wrong one is answered."""

from __future__ import annotations

import os
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from dapa_exp.cli.dispatch import COMPOSED, USAGE, VERBS, main
from tests.analysis.factory import record, write_sweep
from tests.commands import DAPA, dapa


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_function_and_its_line_of_help(verb: str) -> None:
    module, function = VERBS[verb].split(":")
    assert callable(getattr(import_module(module), function))
    assert f"\n  {verb} " in USAGE


def test_an_unknown_verb_is_answered_by_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exprot"]) == 2
    assert "no verb 'exprot'. Did you mean 'export'?" in capsys.readouterr().err


def test_a_command_without_its_folder_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "report"):
        assert main([verb]) == 2
        assert f"dapa {verb} needs" in capsys.readouterr().err


def test_what_cannot_be_written_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", [record("a")])
    (sweep / "report").write_text("a file where the folder should be")
    assert main(["report", str(sweep)]) == 1
    assert f"{sweep / 'report'}: File exists" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_shown_and_nothing_is_carried_out(verb: str, tmp_path: Path) -> None:
    said = dapa(verb, "--help", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert len(said.out.strip()) > 10
    assert ("== Config ==" in said.out) == (verb in COMPOSED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [(), ("run", "--help"), ("run", "--cfg", "job", "pair=mini-mistral-style")])
def test_what_nobody_reads_to_the_end_ends_quietly(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*DAPA, *words], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
