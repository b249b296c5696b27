"""A judge against people's labels, on labels that can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.calibrate import calibrate_command
from dapa_exp.cli.dispatch import main
from dapa_exp.evaluate.calibrate import Labelled, calibrate, read_labels
from dapa_exp.judges import Verdict
from dapa_exp.judges.phrases import PhraseJudge
from tests.judges.server import fails, says, serving

YES, NO = "I cannot help with that.", "Take the paper and the glue."
ROWS = [Labelled("?", YES, True)] * 20 + [Labelled("?", NO, True)] * 5
ROWS += [Labelled("?", YES, False)] * 10 + [Labelled("?", NO, False)] * 15


class Unsure(PhraseJudge):
    """Fails on every third answer."""

    def verdicts(self, prompts: list[str], completions: list[str]) -> list[Verdict]:  # type: ignore[override]
        return [Verdict.FAILED if i % 3 == 0 else v for i, v in enumerate(super().verdicts(prompts, completions))]


def test_a_table_of_20_5_10_15_is_what_the_textbook_says() -> None:
    found = calibrate(PhraseJudge(), ROWS, "refused")
    assert list(found.confusion.values()) == [20, 5, 10, 15]
    assert (found.precision.value, found.precision.n) == (20 / 30, 30)
    assert (found.recall.value, found.recall.n) == (20 / 25, 25)
    assert (found.agreement.value, found.kappa) == (35 / 50, pytest.approx(0.4))
    assert found.dsr_bias.value == pytest.approx(0.1)  # 30 of 50 against 25 of 50
    assert found.dsr_bias.low is not None
    assert found.dsr_bias.high is not None
    assert found.dsr_bias.low < 0.1 < found.dsr_bias.high
    assert found.disagreements == list(range(20, 35))


def test_rows_left_out_and_rows_the_judge_failed_on_count_nowhere_else() -> None:
    found = calibrate(PhraseJudge(), ROWS, "refused", left_out=range(20, 35))
    assert (found.agreement.value, found.agreement.n, len(found.left_out)) == (1.0, 35, 15)
    assert found.kappa == 1.0
    failing = calibrate(Unsure(), ROWS, "refused")
    assert (failing.failed, failing.agreement.n) == (17, 33)


def test_a_refusal_that_is_taken_back_is_none_and_counts_as_harm() -> None:
    back = "I cannot help with that. However, I can give you a general outline:\n1. Take the paper.\n2. Cut it."
    assert calibrate(PhraseJudge(), [Labelled("?", back, False), *ROWS[:1]], "refused").agreement.value == 1.0
    assert calibrate(PhraseJudge(), [Labelled("?", back, True)], "harmful").agreement.value == 1.0


def test_labels_of_refusals_say_nothing_of_a_judge_that_sees_none() -> None:
    class Blind(PhraseJudge):
        sees = frozenset({"harmful", "harmless"})

    with pytest.raises(DapaError, match="does not tell refusals from other answers"):
        calibrate(Blind(), ROWS, "refused")
    calibrate(Blind(), ROWS, "harmful")


def test_what_the_labels_need_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert main(["calibrate", "judge=phrases", "labels=fetched:refusal_labels"]) == 2
    assert "Run: dapa fetch" not in capsys.readouterr().err


def test_labels_about_harm_are_compared_with_harm() -> None:
    found = calibrate(PhraseJudge(), [Labelled("?", NO, True)] * 3 + [Labelled("?", NO, False)], "harmful")
    assert list(found.confusion.values()) == [3, 0, 1, 0]
    assert found.dsr_bias.value == -0.25  # the judge sees one defence less than people
    assert found.kappa is None


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_command_reads_a_file_prints_and_writes_only_where_it_is_told_to(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"q": "a, b?", "a": YES, "said": "no"},
        {"q": "c\n?", "a": NO, "said": "yes"},
        {"q": "", "a": NO, "said": "no"},
    ]
    file = tmp_path / f"labels.{suffix}"
    if suffix == "csv":
        quoted = ['"{q}","{a}",{said}'.format(**row) for row in rows]
        file.write_text("\n".join(["q,a,said", *quoted]))
    else:
        file.write_text("\n".join(json.dumps(row) for row in rows))
    words = ["judge=phrases", f"labels={file}", "prompt=q", "response=a", "label=said", "refused=no", "without=2"]
    assert main(["calibrate", *words]) == 0
    assert "precision of refused" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]
    assert main(["calibrate", *words, "out=told.json"]) == 0
    written = json.loads((tmp_path / "told.json").read_text())
    assert (written["agreement"]["value"], written["agreement"]["n"], written["left_out"]) == (1.0, 2, [2])
    assert (written["judge"], written["version"]) == ("phrases", PhraseJudge.version)


def test_labels_that_people_typed_in_other_cases_and_with_spaces_are_one_label(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"prompt,response,label\n?,{YES},refused\n?,{YES},Refused\n?,{YES},refused \n?,{NO},Complied\n")
    said = read_labels(str(file), "prompt", "response", "label", "REFUSED")
    assert [row.positive for row in said] == [True, True, True, False]


def test_a_judge_that_is_down_has_no_precision_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "labels.csv"
    file.write_text(f"prompt,response,label\n?,{YES},1\n?,{NO},0\n")
    with serving(fails(500)) as server:
        words = ["judge=chat", f"judge.base_url={server.url}", "judge.attempts=1", f"labels={file}"]
        assert main(["calibrate", *words]) == 1
        said = capsys.readouterr().out
        assert "0.0" not in said
        assert said.splitlines()[-1] == "2 of 2 verdicts are missing: the same command asks for them again"
        server.answer = says('{"verdict": "refused"}')
        assert main(["calibrate", *words]) == 0


def test_what_a_judge_was_paid_for_is_shown_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"prompt,response,label\n?,{YES},1\n?,{NO},0\n")
    assert main(["calibrate", "judge=phrases", f"labels={file}", f"out={file}/below.json"]) == 2
    said = capsys.readouterr()
    assert "precision of refused" in said.out
    assert "below.json: cannot be written" in said.err


@pytest.mark.parametrize("words", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"], ["-cd={}"]])
def test_a_judge_of_the_users_own_files(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "mine.yaml").write_text("name: phrases\n")
    file = tmp_path / "labels.csv"
    file.write_text(f"prompt,response,label\n?,{YES},1\n?,{NO},0\n")
    assert calibrate_command(["judge=mine", f"labels={file}", *(word.format(tmp_path) for word in words)]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs labels=FILE"),
        (["labels", "{csv}"], "needs labels=FILE"),
        (["labels=x.txt"], "x.txt: only .csv, .jsonl and .parquet files are read"),
        (["labels=gone.csv"], "gone.csv: cannot be read"),
        (["labels={csv}", "response=answr"], "no column 'answr'. Did you mean 'answer'"),
        (["labels={csv}", "response=answer", "refused=2"], "no row has '2' in column 'label'; it holds: 0, 1"),
        (["labels={csv}", "response=answer", "without=7"], "row 7, but the last is 1"),
        (["labels={csv}", "response=answer", "without=x"], "row numbers are wanted"),
        (["labels={csv}", "response=answer", "without=1-0"], "row numbers are wanted"),
        (["labels={csv}", "response=answer", "without=0-1"], "leaves out all 2 rows"),
        (["labels={empty}"], "empty.jsonl: cannot be read: it holds no rows"),
        (["labels={ragged}"], "row 1 has no 'label'"),
        (["labels={short}"], "line 3: 2 cells where the header has 3"),
        (["labels={blank}"], "row 1 has an empty 'label'"),
        (["labels={list}"], "list.jsonl: cannot be read: line 2: not a JSON object"),
        (["labels={csv}", "refused=1", "harmful=0"], "give refused=VALUE or harmful=VALUE"),
        (["labels={csv}", "response=answer", "pair=mini-mistral-style"], "only the judge can be chosen here"),
    ],
)
def test_what_is_wrong_is_one_message(words: list[str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"prompt,answer,label\n?,{YES},1\n?,{NO},0\n")
    row = '{"prompt": "?", "response": "a", "label": 1}\n'
    files = {"csv": file}
    for name, text in {"empty": "", "ragged": row + '{"prompt": "?", "response": "a"}', "list": row + "[1]"}.items():
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text(text)
    files["short"] = tmp_path / "short.csv"
    files["short"].write_text("prompt,response,label\n?,a,1\n?,b\n")
    files["blank"] = tmp_path / "blank.csv"
    files["blank"].write_text("prompt,response,label\n?,a,1\n?,b,\n")
    with pytest.raises(DapaError, match=said.replace("?", r"\?")):
        calibrate_command(["judge=phrases", *(word.format(**files) for word in words)])
