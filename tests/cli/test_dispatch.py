"""The `dapa` command: every verb is there, and a wrong one is answered."""

from __future__ import annotations

import os
import re
import shlex
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


@pytest.mark.parametrize("verb", ["report", "export", "mirror", "reproduce"])
def test_a_command_without_its_folder_says_what_it_needs(verb: str, tmp_path: Path) -> None:
    said = dapa(verb, cwd=tmp_path)
    assert said.code == 2
    assert f"dapa {verb}: error: the following arguments are required" in said.err


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


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"dapa \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--info"], "Config search path"),
        (["--info", "search=all"], "search/all"),
        (["-i", "searchpath"], "Config search path"),
        (["search=all", "--info", "defaults"], "search/all"),
        (["--cfg", "job", "--package", "search", "search=all"], "algorithm: all"),
        (["--cfg", "hydra", "-p", "hydra.job"], "name: run"),
        (["--hydra-help"], "Hydra"),
    ],
)
def test_what_hydra_shows(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 0
    assert said in capfd.readouterr().out


def test_help_lists_what_can_be_chosen(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    assert not re.search(r"^\w+: .*\b_default\b", capfd.readouterr().out, re.MULTILINE)


COMPLETE = """
eval "$(dapa run -sc install=bash)"
complete -p dapa
tab() {
    COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMPREPLY=()
    case "$1" in *" ") COMP_WORDS+=("");; esac
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
}
tab "dapa r"
tab "dapa run pair=mini-mistral-m"
tab "dapa plan -m search.thresh"
tab "dapa run granularity="
tab "dapa status mul"
"""


def test_the_tab_key_completes_verbs_groups_and_keys(tmp_path: Path) -> None:
    command = tmp_path / "dapa"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(DAPA)} "$@"\n')
    command.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", COMPLETE], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **path}
    )
    assert ended.stderr == ""
    script, verbs, pairs, keys, modules, files = ended.stdout.splitlines()
    assert script.endswith(" dapa")
    assert verbs == "run report reproduce"
    assert pairs == "pair=mini-mistral-mix"
    assert keys == "search.threshold="
    assert "granularity=mlp" in modules
    assert "_default" not in modules
    assert files == ""


def test_what_hydra_cannot_show_is_one_error(tmp_path: Path) -> None:
    for words in (["--cfg", "job", "-m"], ["-sc", "install=nosuch"], ["--cfg", "job", "search=nope"]):
        assert len(dapa("run", *words, cwd=tmp_path).complaint) > 10
