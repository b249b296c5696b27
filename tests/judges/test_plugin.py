"""A judge in one file of the user's own, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.cli.compose import jobs
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.record.layout import RunLayout
from tests.commands import dapa
from tests.evaluate.test_rejudge import finished
from tests.settings import QUICK

TOY = '''
from typing import Literal

from dapa_exp.config.judge import JudgeSettings
from dapa_exp.judges import Judge, Verdict


class Toy(JudgeSettings):
    """Whatever holds a word is refused."""

    version = "1"
    name: Literal["toy"]
    word: str = "cannot"

    def sees(self):
        return frozenset({"refused"})

    def make(self):
        return ToyJudge(self.word)


class ToyJudge(Judge):
    name, version = "toy", Toy.version

    def __init__(self, word):
        self._word = word

    def judge(self, prompts, answers):
        return [Verdict.REFUSED if self._word in answer else Verdict.HARMFUL for answer in answers]


JudgeSettings.registry.register("toy", Toy)
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "toy.py").write_text(TOY)
    (folder / "not_a_plugin.py").write_text("raise SystemExit(3)")  # whatever else lies in the folder
    return folder


def test_it_scores_a_finished_run(mine: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    said = dapa("judge", str(run), "judge=toy", "judge.word=glue", "--config-dir", str(mine), cwd=tmp_path)
    assert said.code == 0, said.err
    record = RunLayout(run).read_record()
    assert record.provenance.judges["toy"].sees == ["refused"]
    assert record.evaluate.student.defence["report"]["toy"].dsr.value == 1.0
    assert record.evaluate.hybrid.defence["report"]["toy"].dsr.value == 0.0


@pytest.mark.slow
def test_it_decides_the_runs_of_a_sweep_in_child_processes(mine: Path, tmp_path: Path) -> None:
    words = [*QUICK, "judge=toy", "search=all", f"record.dir={tmp_path}", "--config-dir", str(mine)]
    said = dapa("run", "-m", "granularity=mlp,gate_proj", *words, cwd=tmp_path, DAPA_PLUGINS="")
    assert said.code == 0, said.err
    records = [json.loads(file.read_text()) for file in tmp_path.glob("*/*/record.json")]
    assert [list(record["provenance"]["judges"]) for record in records] == [["toy"]] * 2


def test_what_is_wrong_with_it_is_said_as_of_any_other(mine: Path, tmp_path: Path) -> None:
    folder = ("--config-dir", str(mine))
    words = ["judge=toy", "judge.wrod=x", "record.dir=" + str(tmp_path)]
    assert "judge.wrod: unknown key. Did you mean 'word'?" in dapa("check", *words, *folder, cwd=tmp_path).complaint
    assert "no such judge. Did you mean 'toy'?" in dapa("check", "judge=toyy", *folder, cwd=tmp_path).complaint
    (mine / "plugins" / "toy.py").write_text("import nothing_of_that_name\n")
    complaint = dapa("check", "judge=toy", *folder, cwd=tmp_path).complaint
    assert complaint.startswith(f"{mine}/plugins/toy.py: cannot be imported: ModuleNotFoundError")


def test_what_judges_see_need_and_send_is_what_they_say() -> None:
    settings = {name: jobs([f"judge={name}"])[0].config.judge for name in JudgeSettings.registry.names()}
    assert {name for name, judge in settings.items() if judge.sends_to()} == {"chat", "dapa_paper"}
    assert {name for name, judge in settings.items() if judge.needs().key} == {"chat", "dapa_paper"}
    assert {name for name, judge in settings.items() if judge.needs().model} == {"classifier", "guard"}
    blind = {name for name, judge in settings.items() if "refused" not in judge.sees()}
    assert blind == {"classifier", "dapa_paper", "guard", "judgezoo"}
