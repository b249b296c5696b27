"""Prompt sets from files, through `datasets`, and the line between search and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.schema import Dataset, Rows
from dapa_exp.prompts.load import load_prompts, load_rows

TABLE = pd.DataFrame(
    {
        "goal": ["forge a passport", "rob a bank", "bribe a judge", "hack a bank"],
        "kind": ["fraud", "theft", "fraud", "cyber"],
        "answer": [3, 1, 4, 1],
    }
)


def write(path: Path, table: pd.DataFrame = TABLE) -> Path:
    match path.suffix:
        case ".csv":
            table.to_csv(path, index=False)
        case ".jsonl":
            table.to_json(path, orient="records", lines=True)
        case ".parquet":
            table.to_parquet(path)
    return path


def rows(source: Path | str, first: int = 0, last: int = 4, **changed: Any) -> Rows:
    defaults = yaml.safe_load((conf_dir() / "prompt_set" / "_default.yaml").read_text())
    return Rows.model_validate(defaults | {"source": str(source), "column": "goal", "rows": (first, last)} | changed)


def dataset(search: Rows, report: Rows) -> Dataset:
    return Dataset(
        name="mine", search=search, report=report, harmless=None, text=None, text_joined=False, questions=None
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_slice_of_a_file_is_read_with_category_and_answer(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"set{suffix}")
    found = load_rows(rows(file, 1, 3, category_column="kind", answer_column="answer"))
    assert [(row.text, row.category, row.answer) for row in found] == [
        ("rob a bank", "theft", "1"),
        ("bribe a judge", "fraud", "4"),
    ]
    assert len({row.id for row in found}) == 2


def test_an_unknown_column_is_answered_by_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match=r"no column 'gaol'; Did you mean 'goal'\? it has: goal, kind, answer"):
        load_rows(rows(write(tmp_path / "set.csv"), column="gaol"))


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match="rows 2-9 asked for, but it has 4"):
        load_rows(rows(write(tmp_path / "set.csv"), 2, 9))


@pytest.mark.parametrize("name", ["set.csv", "set.jsonl", "set.parquet"])
def test_a_file_that_is_not_there_or_is_damaged(tmp_path: Path, name: str) -> None:
    with pytest.raises(DapaError, match=f"{name}: cannot be read"):
        load_rows(rows(tmp_path / name))
    (tmp_path / name).write_bytes(b'{"goal": "\xff\xfe')
    with pytest.raises(DapaError, match=name):
        load_rows(rows(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("latin.csv", "goal\ncaf\u00e9\n".encode("latin-1"), "can't decode byte 0xe9"),
        ("wide.csv", "goal\nrob a bank\n".encode("utf-16"), "can't decode byte 0xff"),
        ("garbled.jsonl", b'{"goal": "rob a bank"}\n{"goal": 7\n', "Unexpected character"),
        ("ragged.csv", b"goal\nrob a bank\nhack, a, bank\n", "Expected 1 fields in line 3, saw 3"),
        ("empty.csv", b"", "No columns to parse from file"),
        ("empty.jsonl", b"", "it holds no rows"),
        ("header.csv", b"goal,kind\n", "it holds no rows"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DapaError, match=f"{name}: cannot be read: .*{said}"):
        load_rows(rows(tmp_path / name))
    assert capfd.readouterr() == ("", "")


def test_a_file_of_another_kind_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text('[{"goal": "rob a bank"}]')
    with pytest.raises(DapaError, match=r"list\.json: only \.csv, \.jsonl and \.parquet files are read"):
        load_rows(rows(file))


def test_an_empty_cell_is_no_prompt(tmp_path: Path) -> None:
    file = write(tmp_path / "set.jsonl", pd.DataFrame({"goal": ["rob a bank", None]}))
    with pytest.raises(DapaError, match="row 1 has nothing in column 'goal'"):
        load_rows(rows(file, 0, 2))


def test_ids_that_repeat_would_mix_up_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv", TABLE.assign(id=["a", "b", "a", "c"]))
    with pytest.raises(DapaError, match="the id 'a' stands in more than one row"):
        load_rows(rows(file))


def test_report_prompts_that_the_search_saw_are_dropped_however_they_are_written(tmp_path: Path) -> None:
    search = write(tmp_path / "search.csv")
    report = write(
        tmp_path / "report.csv",
        pd.DataFrame({"goal": ["Rob a BANK!", "  hack,  a bank ", "poison a well", "rob a bakery"]}),
    )
    sets = load_prompts(dataset(rows(search), rows(report)))
    assert [row.text for row in sets.report] == ["poison a well", "rob a bakery"]
    assert sets.dropped == 2
    assert sets.digests()["search"] != sets.digests()["report"]


def test_a_report_of_nothing_but_search_prompts_is_refused(tmp_path: Path) -> None:
    search, report = write(tmp_path / "search.csv"), write(tmp_path / "report.csv")
    with pytest.raises(DapaError, match="every report prompt is also a search prompt"):
        load_prompts(dataset(rows(search), rows(report)))


def test_the_miniature_search_and_report_rows_share_no_prompt() -> None:
    harmful = {"column": "prompt", "category_column": "category"}
    sets = load_prompts(dataset(rows("zoo:harmful", 0, 64, **harmful), rows("zoo:harmful", 96, 224, **harmful)))
    assert (len(sets.search), len(sets.report), sets.dropped) == (64, 128, 0)


def test_a_conversation_keeps_its_turns_and_asks_with_the_last(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    table = pd.DataFrame({"goal": [[*turns, {"role": "user", "content": "rob a bank"}], turns]})
    file = write(tmp_path / "set.jsonl", table)
    (row,) = load_rows(rows(file, 0, 1))
    assert row.text == "rob a bank"
    assert [(turn.role, turn.content) for turn in row.messages[:2]] == [("user", "hi"), ("assistant", "yes?")]
    with pytest.raises(DapaError, match=r"row 1: the conversation in 'goal' must .* end with the user"):
        load_rows(rows(file, 1, 2))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "rob a bank"}]}], "content of a turn .* is not text"),
        ([{"role": "user", "content": None}], "content of a turn .* is not text"),
        ({"role": "user", "text": "rob a bank"}, "a turn of 'goal' lacks role or content"),
    ],
)
def test_what_is_no_conversation_is_not_asked_as_if_it_were_text(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(DapaError, match=f"row 0: .*{said}"):
        load_rows(rows(write(tmp_path / "set.jsonl", pd.DataFrame({"goal": [value]})), 0, 1))


def test_other_report_sets_share_no_prompt_with_the_search_either(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv")
    other = write(tmp_path / "other.csv", pd.DataFrame({"goal": ["Rob a  bank!", "forge a coin"]}))
    sets = dataset(rows(file, 0, 2), rows(file, 2, 4)).model_copy(update={"more_report": {"other": rows(other, 0, 2)}})
    found = load_prompts(sets)
    assert [row.text for row in found.more_report["other"]] == ["forge a coin"]
    assert found.dropped == 1
    assert "more_report.other" in found.digests()


def test_where_lets_rows_through_before_they_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv")
    assert [row.text for row in load_rows(rows(file, 0, 2, where={"kind": "fraud"}))] == [
        "forge a passport",
        "bribe a judge",
    ]
    assert [row.text for row in load_rows(rows(file, 0, 1, where={"kind": "fraud", "answer": "4"}))] == [
        "bribe a judge"
    ]
    with pytest.raises(DapaError, match="rows 0-3 asked for, but it has 2 with kind 'fraud'"):
        load_rows(rows(file, 0, 3, where={"kind": "fraud"}))
    with pytest.raises(DapaError, match="no column 'knid'; Did you mean 'kind'"):
        load_rows(rows(file, where={"knid": "fraud"}))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_whole_numbers_stay_whole_beside_fractions_and_gaps(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"set{suffix}"
    cells = [("one and two?", "3", "1"), ("nine halves?", "4.5", "")]
    if suffix == ".csv":
        file.write_text("\n".join(["goal,answer,level", *(",".join(row) for row in cells)]))
    else:
        file.write_text("\n".join(f'{{"goal": "{g}", "answer": {a}, "level": {n or "null"}}}' for g, a, n in cells))
    assert [row.answer for row in load_rows(rows(file, 0, 2, answer_column="answer"))] == ["3", "4.5"]
    assert [row.text for row in load_rows(rows(file, 0, 1, where={"level": "1"}))] == ["one and two?"]


def test_ids_do_not_depend_on_the_filter(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv")
    (filtered,) = load_rows(rows(file, 0, 1, where={"kind": "cyber"}))
    assert filtered.id == load_rows(rows(file))[3].id
