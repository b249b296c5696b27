"""The page without a browser: what it says, what it leaves out, and that it is the same each time."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.frame import find_runs, frame_of
from analysis.page.runs import runs_json
from analysis.page.summary import summary
from analysis.report import report
from dapa_exp.cli import main
from tests.analysis.factory import COMPLETION, name_of, record, write_failure, write_sweep


def page_of(*folders: Path, answers: bool = False) -> str:
    paths = report(list(folders), Console(file=io.StringIO()), page_alone=True, answers=answers)
    return paths[-1].read_text(encoding="utf-8")


def said(*folders: Path) -> str:
    runs = find_runs(folders)
    return "\n".join(sentence for answer in summary(frame_of(runs), runs).answers for sentence in answer.sentences)


def details(*folders: Path) -> list[dict[str, Any]]:
    runs = find_runs(folders)
    found: list[dict[str, Any]] = json.loads(runs_json(frame_of(runs), runs, False))["runs"]
    return found


def test_the_summary_answers_four_questions_from_intervals(tmp_path: Path) -> None:
    text = said(write_sweep(tmp_path, [record(f"p{i}", student=0.05, hybrid=0.9 + i / 50) for i in range(3)]))
    assert "3 pairs of 1 family" in text
    assert "3 of 3 runs done." in text
    assert "the mean DSR rises from 5.0 % " in text
    assert "In 3 of 3 runs the search found a certified set." in text
    assert "A found set has 2 of 8 units" in text
    assert "no evidence about real models" in text


def test_of_several_settings_it_says_with_which_the_dsr_rises(tmp_path: Path) -> None:
    dsrs = {"mlp": (0.9, 0.92), "attention": (0.05, 0.06)}
    runs = [record(f"p{i}", granularity=part, hybrid=dsr) for part, of in dsrs.items() for i, dsr in enumerate(of)]
    text = said(write_sweep(tmp_path, runs))
    assert "rises (the whole interval is above zero): mlp (+86.0 [" in text
    assert "No change of the mean DSR is established: attention (+0.5 [" in text


def test_no_interval_of_a_gain_goes_beyond_what_a_gain_can_be(tmp_path: Path) -> None:
    text = said(write_sweep(tmp_path, [record("a", student=0.0, hybrid=1.0), record("b", student=0.05, hybrid=0.5)]))
    assert "+72.5 [-100.0, 100.0]" in text


def test_no_change_is_claimed_that_an_interval_does_not_show(tmp_path: Path) -> None:
    text = said(write_sweep(tmp_path, [record("a", student=0.5, hybrid=0.5), record("b", student=0.5, hybrid=0.55)]))
    assert "rises" not in text
    assert "so no change is established" in text


def test_what_was_not_measured_is_not_claimed(tmp_path: Path) -> None:
    text = said(write_sweep(tmp_path, [record("a")]))
    assert "random sets" not in text.lower()  # the record has no test of them
    assert "Over-refusal of harmless requests: " in text


def test_runs_that_failed_are_counted_and_their_reasons_shown(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a")], [record("b")])
    write_failure(sweep, record("b"), "out of memory")
    assert "1 of 2 runs done (1 failed)." in said(sweep)
    assert 'title="failed: search: out of memory"' in page_of(sweep)


def test_completions_are_in_the_page_only_if_asked_for(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a")], [record("b")])
    line = {"weights": "w", "prompt": "harmful/0", "completion": COMPLETION, "tokens": 3}
    for subject in ("student", "hybrid", "teacher"):
        (sweep / name_of(record("a")) / "generations" / f"{subject}-report.jsonl").write_text(json.dumps(line) + "\n")
    write_failure(sweep, record("b"), f"the teacher is not safer\n  student {COMPLETION}")
    assert COMPLETION not in page_of(sweep)
    assert COMPLETION in page_of(sweep, answers=True)


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>document.title='owned'</script>"
    page = page_of(write_sweep(tmp_path, [record("a", units_found=[evil])]))
    assert evil not in page
    with_name = record("b")
    pair = with_name.pair.model_copy(update={"name": "<img src=x onerror=alert(1)>", "title": evil})
    sweep = tmp_path / "named"
    write_sweep(sweep, [with_name])
    (sweep / name_of(with_name) / "record.json").write_text(
        with_name.model_copy(update={"pair": pair}).model_dump_json()
    )
    page = page_of(sweep)
    assert "&lt;img src=x" in page
    assert "<img" not in page
    assert evil not in page


def test_the_page_names_nothing_outside_of_itself(tmp_path: Path) -> None:
    page = page_of(write_sweep(tmp_path, [record("a"), record("b")]))
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!#|data:|url\(#)[a-z/.]+[:/][^"'\s>)]*""", page)
    assert "default-src 'none'" in page
    assert str(tmp_path) not in page


def test_a_missing_metric_is_a_gap_with_a_reason(tmp_path: Path) -> None:
    run = record("a")
    teacher = run.evaluate.teacher.model_copy(
        update={
            "perplexity": None,
            "over_refusals": {"harmless": {"phrases": None}},
            "no_over_refusal": {"phrases": "blind"},
        }
    )
    run = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"teacher": teacher})})
    metrics = {row[0]: row[1:] for row in details(write_sweep(tmp_path, [run]))[0]["metrics"]}
    assert metrics["perplexity"] == [[5.0, None, None, 1000], [5.0, None, None, 1000], "not measured"]
    assert metrics["over-refusal, harmless, by phrases"][2] == "blind"
    assert metrics["KL from the teacher, harmful requests"] == ["not measured, or the vocabularies differ"] * 3


def test_a_run_is_held_in_few_bytes(tmp_path: Path) -> None:
    runs = [record(f"pair-{i}", units_found=[f"layers.{k}.mlp" for k in range(8)]) for i in range(30)]
    assert len(page_of(write_sweep(tmp_path, runs))) < 30 * 7_000 + 120_000  # 15 MB for 2,000


def test_html_writes_the_page_of_several_sweeps_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_sweep(tmp_path / "before", [record("a", hybrid=0.5), record("b", hybrid=0.5)])
    later = [record(pair, hybrid=0.9, identity=pair * 64) for pair in "ab"]
    after = write_sweep(tmp_path / "after", later)
    assert main(["report", str(before), str(after), "--html"]) == 0
    (page,) = (before / "report-with-after").iterdir()
    assert page.name == "report.html"
    assert "Sweeps side by side" in page.read_text(encoding="utf-8")
    assert capsys.readouterr().out.split() == f"all in one page: {page}".split()
