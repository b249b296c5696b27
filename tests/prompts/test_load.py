"""Prompt sets from files, and the line between search and report."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.dataset import Dataset, Rows
from dapa_exp.prompts.load import RowCounts, load_prompts, search_prompts
from dapa_exp.prompts.rows import load_rows

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
    with pytest.raises(DapaError, match=r"no column 'gaol'\. Did you mean 'goal'\? It has: goal, kind, answer"):
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
        ("latin.csv", "goal\ncaf\u00e9\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8; .*Latin-1.*iconv"),
        ("wide.csv", "goal\nrob a bank\n".encode("utf-16"), "its text is UTF-16.*iconv"),
        ("unmarked.jsonl", '{"goal": 1}'.encode("utf-16-le"), "NUL characters; the text may be UTF-16"),
        ("garbled.jsonl", b'{"goal": "rob a bank"}\n{"goal": 7\n', "line 2: Expecting"),
        (
            "ragged.csv",
            b"goal\nrob a bank\nhack, a, bank\n",
            "line 3: 3 cells where the header has 1 .*quotation marks",
        ),
        ("packed.csv", gzip.compress(b"goal\nrob\n", mtime=0), "it is compressed with gzip: unpack it"),
        ("packed.jsonl", gzip.compress(b'{"goal": "rob"}\n', mtime=0), "it is compressed with gzip: unpack it"),
        ("sheet.csv", b"PK\x03\x04\x14\x00\x06\x00\xe9", "it is a zip archive, such as .xlsx: unpack it"),
        ("empty.csv", b"", "it holds no rows"),
        ("empty.jsonl", b"", "it holds no rows"),
        ("header.csv", b"goal,kind\n", "it holds no rows"),
        ("german.csv", b"goal;kind\nrob a bank;theft\n", "its cells are separated by ';': .*commas"),
        ("short.csv", b'goal,kind\n"rob\na bank",theft\nhack\n', "line 4: 1 cells where the header has 2"),
        ("open.csv", b'goal,kind\nrob,theft\n"hack,theft\n', "line 3: unexpected end of data: a quotation mark"),
        ("twice.csv", b"goal,goal\nrob,hack\n", "line 1: the header has 'goal' more than once"),
        ("list.jsonl", b'{"goal": "rob"}\n\n["hack"]\n', "line 3: not a JSON object"),
        ("twice.jsonl", b'{"goal": "rob", "goal": "hack"}\n', "line 1: has 'goal' more than once"),
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


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("blank", ["", "  \n\t"])
def test_an_empty_prompt_is_refused_alike_in_every_format(tmp_path: Path, suffix: str, blank: str) -> None:
    file = write(tmp_path / f"set{suffix}", pd.DataFrame({"goal": ["rob a bank", blank], "kind": ["theft", "none"]}))
    with pytest.raises(DapaError, match=f"set{suffix}: row 1 has nothing in column 'goal'"):
        load_rows(rows(file, 0, 2))
    assert len(load_rows(rows(file, 0, 1))) == 1


def test_an_empty_turn_is_no_conversation(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "user", "content": " "}]
    file = write(tmp_path / "set.jsonl", pd.DataFrame({"goal": [turns]}))
    with pytest.raises(DapaError, match="row 0 has nothing in column 'goal'"):
        load_rows(rows(file, 0, 1))


def test_blank_lines_of_one_text_are_its_lines(tmp_path: Path) -> None:
    text = write(tmp_path / "text.csv", pd.DataFrame({"line": ["= Title =", "", "Once."]}))
    harmful = write(tmp_path / "set.csv")
    of_text = rows(text, 0, 3, column="line")
    sets = dataset(rows(harmful, 0, 2), rows(harmful, 2, 4)).model_copy(update={"text": of_text})
    with pytest.raises(DapaError, match="row 1 has nothing"):
        load_prompts(sets)
    joined = load_prompts(sets.model_copy(update={"text_joined": True}))
    assert [row.text for row in joined.text] == ["= Title =", "", "Once."]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_cells_are_the_text_that_stands_there(tmp_path: Path, suffix: str) -> None:
    cells = ["007", "1.50", "1969-07-20", "NA", "null", "None", "true", "1e3", ""]
    file = tmp_path / f"set{suffix}"
    if suffix == ".csv":
        file.write_text("goal,answer\n" + "".join(f"question {i},{cell}\n" for i, cell in enumerate(cells)))
    else:
        lines = [f'{{"goal": "question {i}", "answer": {json.dumps(cell)}}}' for i, cell in enumerate(cells)]
        file.write_text("\n".join([*lines, '{"goal": "question 9", "answer": 1.50}']))
        assert load_rows(rows(file, 9, 10, answer_column="answer"))[0].answer == "1.50"
    assert [row.answer for row in load_rows(rows(file, 0, 8, answer_column="answer"))] == cells[:-1]
    with pytest.raises(DapaError, match="row 8 has nothing in column 'answer'"):
        load_rows(rows(file, 8, 9, answer_column="answer"))


def test_a_file_is_read_as_it_is_now_whatever_its_time_says(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    file.write_text("goal\nrob a bank\n")
    before = file.stat()
    assert load_rows(rows(file, 0, 1))[0].text == "rob a bank"
    file.write_text("goal\nhack a pc!\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_rows(rows(file, 0, 1))[0].text == "hack a pc!"


def test_a_file_is_read_by_its_name_not_by_a_pattern(tmp_path: Path) -> None:
    for name, text in {"set[1].csv": "rob a bank", "set1.csv": "hack a bank"}.items():
        (tmp_path / name).write_text(f"goal\n{text}\n")
    assert load_rows(rows(tmp_path / "set[1].csv", 0, 1))[0].text == "rob a bank"


def test_a_first_row_with_an_unquoted_comma_shifts_no_columns(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    file.write_text("goal,kind\nrob a bank, please,theft\nhack a bank,cyber\n")
    with pytest.raises(DapaError, match=r"line 2: 3 cells where the header has 2 \(goal, kind\); a text with a comma"):
        load_rows(rows(file, 0, 1))


def test_the_mark_that_excel_puts_before_a_csv_is_no_part_of_its_header(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    file.write_bytes("goal\ncaf\u00e9\n".encode("utf-8-sig"))
    assert load_rows(rows(file, 0, 1))[0].text == "caf\u00e9"


def test_text_that_parquet_stores_as_bytes_is_text(tmp_path: Path) -> None:
    goals = {"goal": [b"rob a bank", b"\xff\xfe"], "kind": [b"theft", b"none"]}
    file = write(tmp_path / "set.parquet", pd.DataFrame(goals))
    (row,) = load_rows(rows(file, 0, 1, category_column="kind", where={"kind": "theft"}))
    assert (row.text, row.category) == ("rob a bank", "theft")
    with pytest.raises(DapaError, match="row 1 has bytes that are no UTF-8 text in column 'goal'"):
        load_rows(rows(file, 1, 2))


def test_a_long_prompt_in_a_csv_is_read_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv", pd.DataFrame({"goal": ["rob a bank " * 20_000]}))
    assert len(load_rows(rows(file, 0, 1))[0].text) == 220_000


@pytest.mark.parametrize("ids", [["a", "b", "a", "c"], ["a", "b", None, "c"], [None] * 4])
def test_ids_that_identify_no_row_are_not_taken_for_ids(tmp_path: Path, ids: Any) -> None:
    file = write(tmp_path / "set.csv", TABLE.assign(id=ids))
    plain = write(tmp_path / "plain.csv")
    assert len({row.id for row in load_rows(rows(file))}) == 4
    assert [row.id for row in load_rows(rows(file))] == [f"{file}:train:{place}" for place in range(4)]
    assert [row.text for row in load_rows(rows(file))] == [row.text for row in load_rows(rows(plain))]


def test_ids_that_identify_rows_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv", TABLE.assign(id=["a", "b", "d", "c"]))
    assert [row.id for row in load_rows(rows(file, 1, 3))] == ["b", "d"]


def test_an_index_column_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    TABLE.to_csv(file)
    assert [row.text for row in load_rows(rows(file))] == list(TABLE["goal"])


def test_a_prompt_that_repeats_is_one_prompt(tmp_path: Path) -> None:
    search = write(tmp_path / "search.csv")
    goals = ["poison a well", "forge  a Coin", "poison a well", "forge a coin", "what is 1+1?", "what is 1-1?"]
    report = write(tmp_path / "report.csv", pd.DataFrame({"goal": goals}))
    sets = load_prompts(dataset(rows(search), rows(report, 0, 6)))
    assert [row.text for row in sets.report] == ["poison a well", "forge  a Coin", "what is 1+1?", "what is 1-1?"]
    assert sets.kept["report"] == RowCounts(named=6, repeated=2, used=4)
    assert sets.kept["report"].sentence(0.5) == "2 of 6 rows are dropped (2 repeat an earlier row); 4 are used"


def test_conversations_that_end_alike_are_not_one_prompt(tmp_path: Path) -> None:
    def about(thing: str) -> list[dict[str, str]]:
        said = (("user", f"tell me about {thing}"), ("assistant", "what about it?"), ("user", "how is it robbed?"))
        return [{"role": role, "content": content} for role, content in said]

    search = write(tmp_path / "search.jsonl", pd.DataFrame({"goal": [about("banks")]}))
    report = write(tmp_path / "report.jsonl", pd.DataFrame({"goal": [about("trains"), about("banks")]}))
    sets = dataset(rows(search, 0, 1), rows(report, 0, 2)).model_copy(update={"drop_similar": False})
    (row,) = load_prompts(sets).report
    assert row.messages[0].content == "tell me about trains"


def test_a_request_under_two_system_prompts_is_two_prompts_but_one_that_the_search_saw(tmp_path: Path) -> None:
    def under(system: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": "poison a well"}]

    report = write(tmp_path / "report.jsonl", pd.DataFrame({"goal": [under("Be kind."), under("Be rude.")]}))
    search = write(tmp_path / "search.csv")
    assert len(load_prompts(dataset(rows(search), rows(report, 0, 2))).report) == 2
    with pytest.raises(DapaError, match="every report prompt is also a search prompt"):
        load_prompts(dataset(rows(report, 0, 1), rows(report, 1, 2)))


def test_prompts_in_any_script_are_told_apart(tmp_path: Path) -> None:
    goals = ["\u0915\u093f", "\u0915\u0941", "!!!", "???", "\u94f6\u884c"]  # two syllables by their vowel signs
    search = write(tmp_path / "search.csv")
    report = write(tmp_path / "report.csv", pd.DataFrame({"goal": goals}))
    assert [row.text for row in load_prompts(dataset(rows(search), rows(report, 0, 5))).report] == goals


NEAR = ["please forge a passport", "poison a well", "rob  a BANK", "poison a well"]


def test_what_resembles_a_search_prompt_is_dropped_and_counted(tmp_path: Path) -> None:
    search = write(tmp_path / "search.csv")
    report = write(tmp_path / "report.csv", pd.DataFrame({"goal": NEAR}))
    sets = dataset(rows(search), rows(report))
    dropped = load_prompts(sets)
    assert [row.text for row in dropped.report] == ["poison a well"]
    assert dropped.kept["report"] == RowCounts(named=4, repeated=1, searched=1, similar=1, used=1)
    kept = load_prompts(sets.model_copy(update={"drop_similar": False}))
    assert [row.text for row in kept.report] == ["please forge a passport", "poison a well"]
    assert kept.kept["report"] == RowCounts(named=4, repeated=1, searched=1, similar=1, used=2)
    assert kept.kept["report"].sentence(0.5) == (
        "2 of 4 rows are dropped (1 repeat an earlier row; 1 are search rows too);"
        " 1 resemble a search row (Jaccard 0.5 or more) and are kept; 2 are used"
    )
    assert load_prompts(sets.model_copy(update={"similar_at": 0.9})).kept["report"].similar == 0


def test_a_report_that_resembles_the_search_throughout_says_how_to_keep_it(tmp_path: Path) -> None:
    search = write(tmp_path / "search.csv")
    report = write(tmp_path / "report.csv", pd.DataFrame({"goal": NEAR[:1]}))
    with pytest.raises(DapaError, match=r"every report prompt resembles .* dataset\.drop_similar=false"):
        load_prompts(dataset(rows(search), rows(report, 0, 1)))


def test_a_system_prompt_goes_before_every_prompt_but_no_text(tmp_path: Path) -> None:
    file = write(tmp_path / "set.csv")
    other = write(tmp_path / "text.csv", pd.DataFrame({"goal": ["Once."]}))
    changed = {"system_prompt": "Be kind.", "harmless": rows(other, 0, 1), "text": rows(other, 0, 1)}
    asked = dataset(rows(file, 0, 2), rows(file, 2, 4)).model_copy(update=changed)
    sets = load_prompts(asked)
    for row in (*sets.search, *sets.report, *sets.harmless, *search_prompts(asked)):
        assert [turn.role for turn in row.messages] == ["system", "user"]
        assert row.messages[0].content == "Be kind."
    assert [turn.role for turn in sets.text[0].messages] == ["user"]
    assert sets.search == search_prompts(asked)


def test_two_system_prompts_are_one_too_many(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "rob a bank"}]
    file = write(tmp_path / "set.jsonl", pd.DataFrame({"goal": [turns]}))
    asked = dataset(rows(file, 0, 1), rows(write(tmp_path / "set.csv"))).model_copy(
        update={"system_prompt": "Be kind."}
    )
    with pytest.raises(DapaError, match=r"has a system prompt of its own, and dataset\.system_prompt"):
        load_prompts(asked)


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
    asked = dataset(rows("zoo:harmful", 0, 64, **harmful), rows("zoo:harmful", 96, 224, **harmful))
    sets = load_prompts(asked.model_copy(update={"drop_similar": False}))
    assert (len(sets.search), len(sets.report), sets.dropped) == (64, 128, 0)
    assert sets.kept["report"].similar == 116


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
    with pytest.raises(DapaError, match=r"no column 'knid'\. Did you mean 'kind'"):
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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": NaN}', r"line 1: NaN is no JSON; null says that a value is missing"),
        (r'{"prompt": "a \ud800"}', r"row 0 has half a character \(a lone surrogate\) in column 'prompt'"),
        (r'{"prompt": [{"role": "user", "content": "a \ud800"}]}', "row 0 has half a character"),
        (r'{"prompt": "\u200b \u2060"}', "row 0 has nothing in column 'prompt'"),
    ],
)
def test_text_that_is_none_is_named_before_a_model_is_asked(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DapaError, match=said):
        load_rows(rows(file, 0, 1, column="prompt"))


def test_a_cell_that_is_no_text_is_not_read_as_python_writes_it(tmp_path: Path) -> None:
    """`['Paris']` is nobody's answer: accuracy would be 0 % of every model."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "answer": ["Paris"], "kind": {"cyber": true}}\n')
    for column, said in {
        "answer": "row 0 has a list, not text, in",
        "kind": "row 0 has an object, not text, in",
    }.items():
        with pytest.raises(DapaError, match=f"{said} column '{column}'"):
            load_rows(rows(file, 0, 1, column="prompt", answer_column=column))


@pytest.mark.parametrize("said", ['[{"role": "user", "content": "a"}]', "[{'content': 'a', 'role': 'user'}]"])
def test_a_conversation_that_is_written_as_text_is_refused(tmp_path: Path, said: str) -> None:
    file = write(tmp_path / "set.csv", pd.DataFrame({"goal": [said]}))
    with pytest.raises(DapaError, match=r"row 0: the conversation in 'goal' is written as text.*\.jsonl"):
        load_rows(rows(file, 0, 1))


def test_a_header_that_repeats_is_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "joined.csv").write_text("goal\na\nb\ngoal\nc\n")
    with pytest.raises(DapaError, match="line 4: repeats the header, as after joining two files"):
        load_rows(rows(tmp_path / "joined.csv", 0, 4))


def test_a_gap_in_a_column_of_numbers_is_no_prompt_and_passes_no_filter(tmp_path: Path) -> None:
    table = pa.table({"prompt": pa.array(["a", "b"]), "level": pa.array([1.5, float("nan")])})
    parquet.write_table(table, tmp_path / "rows.parquet")
    file = tmp_path / "rows.parquet"
    assert [row.text for row in load_rows(rows(file, 0, 1, column="prompt", where={"level": "1.5"}))] == ["a"]
    with pytest.raises(DapaError, match="row 1 has nothing in column 'level'"):
        load_rows(rows(file, 0, 2, column="level"))


def test_a_yes_or_no_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "unsafe": true}\n{"prompt": "b", "unsafe": false}\n')
    file = tmp_path / "rows.jsonl"
    assert [row.text for row in load_rows(rows(file, 0, 1, column="prompt", where={"unsafe": "true"}))] == ["a"]


def test_a_folder_is_not_read_in_place_of_a_hub_set_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "prompts").mkdir(parents=True)
    write(tmp_path / "some" / "prompts" / "rows.csv")
    for name in ("some/prompts", tmp_path / "some" / "prompts"):
        with pytest.raises(DapaError, match=r"prompts: a folder of this machine: name one of its \.csv"):
            load_rows(rows(name))


def test_the_report_of_the_miniatures_apart_resembles_no_search_row() -> None:
    kept = load_prompts(jobs(["+experiment=miniature_apart", "pair=mini-mistral-base"])[0].config.dataset).kept
    assert (kept["report"].similar, kept["report"].used) == (0, 66)
