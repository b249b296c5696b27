"""A finished run's answers scored again: from its files alone, by any judge, into its record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import load
from analysis.report import tables_of
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.judge import judge_command
from dapa_exp.evaluate.rejudge import rejudge
from dapa_exp.judges import Judge, Verdict
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.prompts.load import load_prompts
from dapa_exp.record.folder import claim_folder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import CompletionLine, RunLayout
from dapa_exp.record.mirror import flatten
from dapa_exp.record.schema import Record
from dapa_exp.record.status import status
from tests.analysis.factory import record
from tests.judges.server import fails, says, serving
from tests.settings import quick_config

ANSWERS = {"student": "take the paper and glue.", "hybrid": "i cannot help you.", "teacher": "i am unable to help."}
QUIET = """
import sys
from dapa_exp.cli.dispatch import main
code = main(sys.argv[1:])
assert not {"torch", "transformers"} & set(sys.modules), "a language model's library was imported"
sys.exit(code)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished(tmp_path / "run")


def finished(folder: Path, *words: str) -> Path:
    """What a run leaves: every model says one thing to each harmful prompt, and refuses the first harmless one."""
    config = quick_config("evaluate.metrics=[over_refusal]", *words)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    sets, planted = load_prompts(config.dataset), record()
    provenance = planted.provenance.model_copy(update={"prompt_sets": sets.digests()})
    (folder / "record.json").write_text(planted.model_copy(update={"provenance": provenance}).model_dump_json())
    for model, answer in ANSWERS.items():
        for rows, prompts in (("report", sets.report), ("harmless", sets.harmless)):
            texts = [answer if rows == "report" or i == 0 else "with pleasure, take some." for i in range(len(prompts))]
            lines = [
                {"weights": model, "prompt": p.id, "completion": text, "tokens": 5}
                for p, text in zip(prompts, texts, strict=True)
            ]
            Journal(RunLayout(folder).completions(model, rows), CompletionLine).append(*lines)
            verdicts = PhraseJudge().verdicts([p.text for p in prompts], texts)
            file = folder / "metrics" / f"{model}-{rows}-phrases.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"verdicts": verdicts}))
    return folder


def finished_record(run: Path) -> Record:
    return RunLayout(run).read_record()


class Half(Judge):
    """Calls every second answer a defence, whatever it says; all of them once it is `lenient`."""

    name, version, template, sees = "half", "7", "abc", frozenset({"refused", "harmful"})

    def __init__(self, lenient: bool = False) -> None:
        self._lenient = lenient

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        return [Verdict.REFUSED if i % 2 or self._lenient else Verdict.HARMFUL for i in range(len(answers))]


def test_another_judges_view_joins_the_record(run: Path) -> None:
    rejudge(run, Half(), "half", silent)
    found = finished_record(run)
    kept = {"version": "7", "template": "abc", "sees": ["harmful", "refused"], "answered_by": None}
    assert found.provenance.judges["half"].model_dump() == kept
    hybrid = found.evaluate.hybrid
    assert (hybrid.defence["report"]["half"].dsr.value, hybrid.defence["report"]["half"].dsr.n) == (0.5, 16)
    over_refusal = hybrid.over_refusals["harmless"]["half"]
    assert over_refusal is not None
    assert over_refusal.value == 0.5
    (agreed,) = found.evaluate.agreement
    assert agreed.judges == ("phrases", "half")
    assert (agreed.agreement.value, agreed.agreement.n) == (0.5, 48)
    assert agreed.kappa == pytest.approx(0.0)
    assert hybrid.dsr == record().evaluate.hybrid.dsr, "the headline is the run's own judge's"
    assert found.evaluate.comparisons == record().evaluate.comparisons


def test_a_judge_that_scores_again_replaces_its_own_view_and_no_other(run: Path) -> None:
    rejudge(run, PhraseJudge(), "again", silent)
    rejudge(run, Half(), "half", silent)
    before = finished_record(run).evaluate.hybrid.defence["report"]
    rejudge(run, Half(lenient=True), "half", silent)
    after = finished_record(run).evaluate.hybrid.defence["report"]
    assert (before["half"].dsr.value, after["half"].dsr.value) == (0.5, 1.0)
    assert {name: after[name] for name in ("phrases", "again")} == {name: before[name] for name in ("phrases", "again")}


def test_a_name_is_not_taken_from_another_judge(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    with serving(says('{"verdict": "refused"}')) as server:
        chat = [str(run), "judge=chat", f"judge.base_url={server.url}", "as=other"]
        assert judge_command([*chat, "judge.model=a"]) == 0
        kept = {path: path.read_text() for path in run.rglob("*.json")}
        asked = len(server.asked)
        with pytest.raises(DapaError, match=r"'other' is another judge's \(version 1 \(a\), this one \d+\).*as=NAME"):
            judge_command([str(run), "judge=phrases", "as=other"])
        with pytest.raises(DapaError, match=r"this one 1 \(b\)"):
            judge_command([*chat, "judge.model=b"])
        assert {path: path.read_text() for path in run.rglob("*.json")} == kept
        assert len(server.asked) == asked, "nothing is paid for what is refused"
        assert judge_command([*chat, "judge.model=a", "judge.attempts=1"]) == 0


def test_the_command_needs_no_model_and_imports_none(run: Path, tmp_path: Path) -> None:
    with serving(says('{"verdict": "refused"}')) as server:
        done = subprocess.run(
            [sys.executable, "-c", QUIET, "judge", str(run), "judge=chat", f"judge.base_url={server.url}", "as=other"],
            env={"DAPA_CACHE": str(tmp_path / "cache"), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 3 * 16 + 3 + 7, "the same answer to the same prompt is asked about once"
    assert "DSR other (%)" in done.stdout
    assert "5,800 tokens sent, 290 received" in done.stdout
    assert finished_record(run).evaluate.student.defence["report"]["other"].dsr.value == 1.0


def test_a_judge_that_says_nothing_is_given_up_and_leaves_no_trace(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    before = {path: path.read_text() for path in run.rglob("*.json")}
    command = [str(run), "judge=chat", "judge.attempts=1", "as=other"]
    with serving(fails(500)) as server:
        server.faults = [fails(500)] * 100
        assert judge_command([*command, f"judge.base_url={server.url}"]) == 1
        assert "no verdict on any of the first 40 of 72 answers" in capsys.readouterr().err
        assert len(server.faults) >= 100 - 40, "nobody waits for the others in vain"
        assert {path: path.read_text() for path in run.rglob("*.json")} == before
        server.faults, server.answer = [], says('{"verdict": "refused"}')
        assert judge_command([*command, f"judge.base_url={server.url}", "judge.model=spelt-right-now"]) == 0


def test_a_judge_that_is_down_has_no_dsr_and_fails_until_the_same_command_finds_it_well(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    with serving(fails(500), says('{"verdict": "refused"}')) as server:
        command = [str(run), "judge=chat", f"judge.base_url={server.url}", "judge.attempts=1", "as=other"]
        assert judge_command(command) == 1
        said = capsys.readouterr().out
        assert "(n=0)" not in said
        assert "–" in said
        assert said.splitlines()[-1] == "71 of 72 verdicts are missing: the same command asks for them again"
        assert finished_record(run).evaluate.student.defence["report"]["other"].outcomes.failed == 15
        server.faults, server.answer = [fails(500)], says('{"verdict": "refused"}')
        assert judge_command(command) == 0
        assert "1 of 72 verdicts are missing" in capsys.readouterr().out, "single failures are missing data"
        assert judge_command(command) == 0
        assert "missing" not in capsys.readouterr().out


def test_a_run_that_is_being_worked_on_is_left_alone_and_free_again_afterwards(run: Path) -> None:
    with claim_folder(run), pytest.raises(DapaError, match="another process is working on this run"):
        rejudge(run, PhraseJudge(), "again", silent)
    rejudge(run, PhraseJudge(), "again", silent)
    with claim_folder(run, 0):
        pass


def test_answers_are_not_judged_as_answers_to_prompts_that_were_edited_since(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    lines = ["prompt,topic", *(f"how do i paint fence {i}?,paint" for i in range(16))]
    file.write_text("\n".join(lines))
    mine = f"{{source: {file}, column: prompt, category_column: topic, rows: [0, 16]}}"
    run = finished(tmp_path / "run", f"dataset.report={mine}")
    rejudge(run, PhraseJudge(), "again", silent)
    before = {path: path.read_text() for path in run.rglob("*.json")}
    file.write_text("\n".join([*lines[:-1], "how do i burn fence 15?,paint"]))
    with pytest.raises(DapaError, match=r"these prompt sets have changed since the run: dataset\.report$"):
        rejudge(run, Half(), "half", silent)
    assert {path: path.read_text() for path in run.rglob("*.json")} == before


def test_what_is_not_there_or_not_allowed_is_one_message(run: Path) -> None:
    with pytest.raises(DapaError, match="choose another name with as=NAME"):
        rejudge(run, PhraseJudge(), "phrases", silent)
    with pytest.raises(DapaError, match="letters, digits and underscores"):
        rejudge(run, PhraseJudge(), "../again", silent)
    answers = run / "generations" / "hybrid-report.jsonl"
    answers.write_text("\n".join(answers.read_text().splitlines()[:-1]) + "\n")
    before = (run / "record.json").read_text()
    with pytest.raises(DapaError, match="no answer to prompt"):
        rejudge(run, PhraseJudge(), "again", silent)
    assert (run / "record.json").read_text() == before
    (run / "record.json").unlink()
    with pytest.raises(DapaError, match="not finished"):
        rejudge(run, PhraseJudge(), "again", silent)


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0], ids=["first line", "a line between", "last line"])
def test_one_bad_byte_in_the_answers_is_an_error_that_changes_nothing(run: Path, where: float) -> None:
    file = run / "generations" / "hybrid-report.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    place = round(where * (len(lines) - 1))
    lines[place] = b"\xff" + lines[place][1:]
    file.write_bytes(b"".join(lines))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(DapaError, match=rf"hybrid-report\.jsonl, line {place + 1}: damaged"):
        rejudge(run, PhraseJudge(), "again", silent)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_answer_without_its_end_is_missing_and_is_not_cut_off(run: Path) -> None:
    file = run / "generations" / "hybrid-report.jsonl"
    torn = file.read_bytes()[:-5]
    file.write_bytes(torn)
    with pytest.raises(DapaError, match="no answer to prompt"):
        rejudge(run, PhraseJudge(), "again", silent)
    assert file.read_bytes() == torn


def test_two_judges_at_once_both_join_the_record(run: Path) -> None:
    class Slow(Half):
        """While it scores, another judge comes and goes."""

        def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
            if "again" not in finished_record(run).provenance.judges:
                rejudge(run, PhraseJudge(), "again", silent)
            return super().judge(prompts, answers)

    rejudge(run, Slow(), "half", silent)
    assert set(finished_record(run).provenance.judges) == {"phrases", "again", "half"}


@pytest.mark.parametrize("damage", ["{}", '{"verdicts": ["refusee"]}', '{"verdicts": "refused"}', "", "\x00"])
def test_verdicts_that_are_none_name_their_file(run: Path, damage: str) -> None:
    (run / "metrics" / "student-report-phrases.json").write_text(damage)
    with pytest.raises(DapaError, match=r"student-report-phrases\.json: damaged"):
        rejudge(run, PhraseJudge(), "again", silent)


class Blind(Half):
    """Cannot tell refusals from other answers."""

    sees = frozenset({"harmless", "harmful"})


def test_over_refusal_by_a_judge_that_sees_no_refusals_is_null_with_a_reason(run: Path) -> None:
    rejudge(run, Blind(), "guard", silent)
    hybrid = finished_record(run).evaluate.hybrid
    assert hybrid.over_refusals["harmless"]["guard"] is None
    assert hybrid.over_refusals["harmless"]["phrases"] is not None
    assert hybrid.no_over_refusal == {
        "guard": "judge guard does not tell refusals from other answers: it sees harmful and harmless"
    }
    assert "evaluate/hybrid/over_refusals/harmless/guard/value" not in flatten(finished_record(run))


def test_judges_agree_within_each_model_less_than_over_all_of_them(run: Path) -> None:
    class ByModel(Half):
        """Agrees with the phrases on student and teacher, and by half on the hybrid."""

        def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
            said = PhraseJudge().verdicts(prompts, answers)
            other = [i % 2 == 1 and "help you" in answer for i, answer in enumerate(answers)]
            return [Verdict.HARMFUL if odd else verdict for odd, verdict in zip(other, said, strict=True)]

    rejudge(run, ByModel(), "other", silent)
    evaluate = finished_record(run).evaluate
    assert evaluate.agreement[0].agreement.value == pytest.approx(40 / 48)
    by_model = {model: agreed[0].agreement.value for model, agreed in evaluate.agreement_by_model.items()}
    assert by_model == {"student": 1.0, "hybrid": 0.5, "teacher": 1.0}
    assert flatten(finished_record(run))["evaluate/agreement_by_model/hybrid/phrases+other/agreement/value"] == 0.5


def test_the_record_says_on_how_many_answers_early_and_whole_verdicts_differ(run: Path) -> None:
    back = "i cannot help you. However, I can give you a general outline: 1. Take the paper. 2. Cut it."
    file = run / "generations" / "hybrid-report.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*(line.replace("i cannot help you.", back) for line in lines[:5]), *lines[5:]]) + "\n")
    rejudge(run, PhraseJudge(), "again", silent)
    found = finished_record(run).evaluate.hybrid.defence["report"]
    assert (found["again"].early_differs, found["again"].outcomes.retracted) == (5, 5)
    assert found["again"].dsr.value == pytest.approx(11 / 16)
    rejudge(run, Half(), "half", silent)
    assert finished_record(run).evaluate.hybrid.defence["report"]["half"].early_differs is None


NEWER = {
    *("no_over_refusal", "agreement_by_model", "retracted", "early_differs", "sees", "over_refusal_comparisons"),
    *("perplexity_comparisons", "above_threshold_clusters", "dsr_clusters", "clusters", "sets", "parameters"),
    *("found_dsr", "interval", "reached", "p_value", "exact", "equal_parameters"),
}
"""What a record of the first version does not hold."""


def _older(part: Any, where: str = "") -> Any:
    """The same record as the first version wrote it; of `random`, a control, also what other parts do hold."""
    if isinstance(part, list):
        return [_older(item, where) for item in part]
    if not isinstance(part, dict):
        return part
    gone = NEWER if where == "random" else NEWER - {"parameters", "found_dsr", "p_value"}
    return {key: _older(value, key) for key, value in part.items() if key not in gone}


def test_a_run_of_an_older_version_is_listed_reported_and_judged(run: Path) -> None:
    written = _older(json.loads((run / "record.json").read_text()))
    assert set(written["evaluate"]["random"]) == {"k", "dsr", "mean"}
    (run / "record.json").write_text(json.dumps(written))
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["dataset"]["drop_similar"]  # whose rows all resemble each other, and were used
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (listed,) = status(run)
    assert listed.state == "done"
    rejudge(run, PhraseJudge(), "again", silent)
    tables = {table.name: table for table in tables_of(load(run))}
    (row,) = tables["main"].numbers.query("row == 'run'").to_dict("records")
    assert (row["random_dsr"], row["hybrid_retracted"]) == (pytest.approx(0.1), 0)
    assert "p (random-k)" not in tables["main"].display
    assert set(tables["agreement"].display["model"]) == {"student", "hybrid", "teacher"}
