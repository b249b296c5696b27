"""`dapa align`: one command from two models to the aligned one, whatever interrupts it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapa_exp.cli.align import drops_nothing
from dapa_exp.cli.dispatch import main
from dapa_exp.record.schema import Record, SearchRecord
from tests.commands import Said, started, wait_until

STUDENT, TEACHER = "zoo:llama-small-style", "zoo:llama-small-chat"
SHORT = (
    *("dataset.search.rows=[0,32]", "dataset.report.rows=[96,128]", "dataset.harmless.rows=[0,16]"),
    *("dataset.text.rows=[0,8]", "evaluate.max_new_tokens=32", "evaluate.random_repeats=1"),
)


def align(out: Path, *words: str) -> tuple[str, ...]:
    return ("align", STUDENT, "--teacher", TEACHER, "--out", str(out), *SHORT, *words)


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*words: str) -> Said:
        capfd.readouterr()
        code = main(list(words))
        return Said(code, *capfd.readouterr())

    return run


def asked(out: Path) -> int:
    """How many queries all levels have asked."""
    return sum(file.read_bytes().count(b"\n") for file in out.rglob("search.jsonl"))


def has_asked(out: Path, lines: int) -> bool:
    return asked(out) >= lines


def searches(out: Path) -> dict[str, SearchRecord]:
    """What each level found, by granularity."""
    found = [SearchRecord.model_validate_json(file.read_text()) for file in out.glob("runs/*/found.json")]
    return {search.granularity: search for search in found}


@pytest.mark.slow
def test_one_command_interrupted_and_killed_ends_with_a_model_that_transformers_loads(
    tmp_path: Path, said: Callable[..., Said]
) -> None:
    out = tmp_path / "out"
    words = align(out, "dataset.questions=null")
    for lines, how in ((3, signal.SIGINT), (20, signal.SIGKILL)):
        with started(*words, cwd=tmp_path) as running:
            wait_until(partial(has_asked, out, lines), 300)
            os.killpg(running.pid, how)
            assert running.wait(60) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "the same command goes on from here" in (tmp_path / "said.txt").read_text()
    assert not (out / "model").exists()
    done = said(*words)
    assert done.code == 0, done.err

    found = searches(out)
    assert sorted(found) == ["layer", "module", "part"]
    assert {search.status for search in found.values()} == {"certified"}
    outer = {"module": found["layer"], "part": found["module"]}
    for level, coarser in outer.items():
        for unit in found[level].units_found:
            assert any(f"{unit}.".startswith(f"{of}.") for of in coarser.units_found)
    (measured,) = out.glob("runs/*/record.json")  # the exported level alone
    assert "-part-" in measured.parent.name
    card = json.loads((out / "model" / "dapa.json").read_text())
    assert card["record"]["identity"] == Record.model_validate_json(measured.read_text()).identity
    assert (out / "patch.safetensors").is_file()
    assert list((out / "runs" / "report").iterdir())
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(out / "model").chat_template

    (run,) = out.glob("runs/*-part-*")
    talk = said("chat", str(run), "--say", "hi", "--say", "who are you", "--max-new-tokens", "8")
    assert [line.partition(": ")[0] for line in talk.out.splitlines()] == ["student", "aligned"] * 2

    before = {file: file.stat().st_mtime_ns for file in (out / "model").iterdir()}
    again = said(*words)
    assert again.code == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "model").iterdir()} == before
    assert again.out.split("defended")[1:] == done.out.split("defended")[1:]
    assert "certified" in again.out


@pytest.mark.slow
def test_a_task_that_falls_too_far_keeps_the_model_from_being_exported(
    tmp_path: Path, said: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("prompt,answer\n" + "".join(f"how old is the {n}?,{n}\n" for n in ("tower", "bridge", "river")))
    kept_tasks = ("--keep", str(file), "--keep", "miniature_questions", "evaluate.tasks.limit=8")
    words = align(tmp_path / "out", *kept_tasks, "--time", "1s", "--tolerance=55")
    monkeypatch.chdir(tmp_path)  # no repository of git: the harness asks for its commit
    kept = said(*words)
    assert kept.code == 0, kept.err
    assert f"{file}: 0.0 % → 0.0 %, n = 3: is kept; so few rows do not rule out a fall of up to 56 points" in kept.out
    assert re.search(r"^miniature_questions/\S+: [\d.]+ % → [\d.]+ %, n = 8: ", kept.out, re.MULTILINE)
    assert "git" not in kept.err

    lost = said(*words, "--tolerance=-1")
    assert lost.code == 1
    assert "falls by more than -1 points" in lost.out
    assert "nothing is exported" in lost.out


@pytest.mark.parametrize(("sizes", "nothing"), [((100,), False), ((100, 99), True), ((100, 80), False)])
def test_a_search_that_keeps_all_of_what_the_one_before_found_is_the_last(
    sizes: tuple[int, ...], nothing: bool
) -> None:
    assert drops_nothing(sizes) == nothing


def test_what_stands_in_the_way_is_said_before_anything_starts(tmp_path: Path, said: Callable[..., Said]) -> None:
    for student, problem in (("./nowhere", "no such folder"), ("zoo:gemma-small-base", "do not fit")):
        tried = said("align", student, "--teacher", TEACHER, "--out", str(tmp_path / "out"))
        assert problem in tried.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("granularity=mlp", "granularity: the granularities are layer, module, part"),
        ("record.dir=elsewhere", "record.dir: --out names the folder"),
        ("record.until=search", "record.until: it goes on until the model is exported"),
        ("search=all", "search=all: a control names its sets in advance"),
    ],
)
def test_what_the_command_sets_itself_is_refused(
    override: str, complaint: str, tmp_path: Path, said: Callable[..., Said]
) -> None:
    assert complaint in said(*align(tmp_path / "out"), override).complaint
    assert not (tmp_path / "out").exists()


def test_on_a_terminal_one_may_say_no(
    tmp_path: Path, said: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    asked = said(*align(tmp_path / "out"))
    assert asked.code == 1
    assert "Go on? [y/n]" in asked.out
    assert "of memory" in asked.out
    assert not (tmp_path / "out").exists()
