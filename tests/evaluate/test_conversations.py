"""A run with conversations: recorded, interrupted, judged again, and too long for the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis import load
from analysis.tables.conversations import conversations_table
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.rejudge import rejudge
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from tests.settings import quick_config

MODELS = ("student", "hybrid", "teacher")
TALKS = (
    "dataset=miniature_conversations",
    "dataset.conversations.rows=[0,8]",
    "search=all",
    "evaluate.random_repeats=0",
)


def config(*words: str) -> Config:
    return quick_config("pair=mini-mistral-style", *TALKS, *words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build(["mistral-style", "mistral-chat"], silent)
    folder = tmp_path_factory.mktemp("talks") / "run"
    run(config(), folder, silent)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "sweep" / "run"))


def record_of(folder: Path) -> Record:
    return RunLayout(folder).read_record()


def lines(folder: Path, model: str, turn: int) -> list[str]:
    return RunLayout(folder).completions(model, f"turn{turn}").read_text().splitlines()


@pytest.mark.slow
def test_every_turn_is_on_disk_and_judged_but_the_friendly_one(finished: Path) -> None:
    record = record_of(finished)
    for model in MODELS:
        subject = getattr(record.evaluate, model)
        assert [len(lines(finished, model, turn)) for turn in (1, 2, 3, 4)] == [8] * 4
        assert [name for name in subject.defence if name != "report"] == ["turn2", "turn3", "turn4"]
        talks = subject.conversations["phrases"]
        verdicts = [
            json.loads(RunLayout(finished).verdicts(model, f"turn{turn}", "phrases").read_text())["verdicts"]
            for turn in (2, 3, 4)
        ]
        unbroken = [all(verdict == "refused" for verdict in talk) for talk in zip(*verdicts, strict=True)]
        assert talks.held[-1].value == sum(unbroken) / 8
        assert sum(talks.first_broken) == 8 - sum(unbroken)
        assert (talks.held[0].value, talks.unknown, talks.outgrown) == (1.0, 0, 0)
    against = {each.against: each for each in record.evaluate.conversation_comparisons}
    assert against["student"].gained == round(8 * record.evaluate.hybrid.conversations["phrases"].held[-1].value)
    shown = conversations_table(load(finished)).display
    assert shown["turn"].tolist() == ["1", "2", "3", "4"]
    assert shown["DSR hybrid"].iloc[0] == "–"


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_a_conversation_goes_on_there(copied: Path, finished: Path) -> None:
    files, before = RunLayout(copied), record_of(finished)
    files.record.unlink()
    files.completions("hybrid", "turn4").unlink()
    for turn in (2, 3, 4):
        files.verdicts("hybrid", f"turn{turn}", "phrases").unlink()
    half = files.completions("hybrid", "turn3")
    kept = half.read_text().splitlines(keepends=True)
    half.write_text("".join(kept[:3]) + kept[3][:20])
    first = lines(copied, "hybrid", 1)
    again = run(config(), copied, silent)
    assert again.evaluate == before.evaluate
    assert lines(copied, "hybrid", 1) == first
    assert sorted(lines(copied, "hybrid", 3)) == sorted(lines(finished, "hybrid", 3))
    assert again.cost["hybrid"].tokens > before.cost["hybrid"].tokens, "the lost answers are generated, and counted"


@pytest.mark.slow
def test_another_judge_reads_the_talks_from_disk_and_misses_what_was_deleted(copied: Path) -> None:
    hybrid = rejudge(copied, PhraseJudge(), "again", silent).record.evaluate.hybrid
    assert hybrid.conversations["again"] == hybrid.conversations["phrases"]
    file = RunLayout(copied).completions("hybrid", "turn3")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DapaError, match=r"hybrid-turn3\.jsonl: leads to 7 answers, and 8 were judged"):
        rejudge(copied, PhraseJudge(), "third", silent)


@pytest.mark.slow
def test_a_talk_that_outgrows_the_model_ends_and_is_not_counted_as_held(tmp_path: Path) -> None:
    build(["mistral-style", "mistral-chat"], silent)
    folders = {}
    for role, name in (("student", "mistral-style"), ("teacher", "mistral-chat")):
        folders[role] = Path(shutil.copytree(store.path(name), tmp_path / role))
        settings = json.loads((folders[role] / "config.json").read_text())
        (folders[role] / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 90}))
    words = (f"pair.student.id={folders['student']}", f"family.teacher.id={folders['teacher']}")
    record = run(config(*words), tmp_path / "sweep" / "run", silent)
    teacher = record.evaluate.teacher
    talks = teacher.conversations["phrases"]
    assert talks.outgrown > 0
    assert teacher.defence["turn4"]["phrases"].dsr.n < 8
    assert talks.held[-1].n == 8 - talks.unknown
