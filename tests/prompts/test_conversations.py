"""Conversations from files: the user's turns, however they are written, and what is wrong with the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.dataset import ConversationRows, Dataset
from dapa_exp.prompts.conversations import load_conversations
from dapa_exp.prompts.load import load_prompts
from dapa_exp.record.identity import essence, identity
from tests.settings import quick_config


def rows(source: Path, count: int = 1, **changed: Any) -> ConversationRows:
    defaults = {
        key: value
        for name in ("prompt_set", "conversations")
        for key, value in yaml.safe_load((conf_dir() / name / "_default.yaml").read_text()).items()
        if key != "defaults"
    }
    body = {"source": str(source), "column": "turns", "rows": (0, count)}
    return ConversationRows.model_validate(defaults | body | changed)


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "talks.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    return file


def test_plain_texts_are_the_users_turns(tmp_path: Path) -> None:
    file = written(tmp_path, {"id": "a", "turns": ["hello", "[and] now?"], "topic": "t", "opening": 1})
    (talk,) = load_conversations(rows(file, category_column="topic", opening_column="opening"))
    assert (talk.id, talk.turns, talk.category, talk.opening) == ("a", ("hello", "[and] now?"), "t", 1)
    assert [talk.judges(turn) for turn in (1, 2, 3)] == [False, True, False]


def test_a_single_turn_is_a_conversation(tmp_path: Path) -> None:
    (talk,) = load_conversations(rows(written(tmp_path, {"turns": "hello"})))
    assert talk.turns == ("hello",)


def test_answers_of_another_model_are_left_out_and_a_system_prompt_is_kept(tmp_path: Path) -> None:
    said = [("system", "be kind"), ("user", "hello"), ("assistant", "hi"), ("user", "and now?")]
    file = written(tmp_path, {"turns": [{"role": role, "content": text} for role, text in said]})
    (talk,) = load_conversations(rows(file))
    assert (talk.system, talk.turns) == ("be kind", ("hello", "and now?"))
    prompt = talk.prompt(["mine"])
    assert [(turn.role, turn.content) for turn in prompt.messages] == [
        ("system", "be kind"),
        ("user", "hello"),
        ("assistant", "mine"),
        ("user", "and now?"),
    ]


def test_a_set_with_a_turn_a_column_is_read_by_number_as_mhj_is(tmp_path: Path) -> None:
    """MHJ has columns message_0 to message_100 of {"body", "role"}, most of them empty."""
    columns = {f"message_{n}": json.dumps({"body": f"turn {n}", "role": "user"}) for n in (10, 2, 0)}
    pd.DataFrame([columns | {"message_11": None, "messages": "9"}]).to_csv(tmp_path / "mhj.csv", index=False)
    (talk,) = load_conversations(rows(tmp_path / "mhj.csv", column="message_*", text_key="body"))
    assert talk.turns == ("turn 0", "turn 2", "turn 10")


def test_a_set_of_pairs_of_user_and_bot_is_read_by_its_keys_as_safedialbench_is(tmp_path: Path) -> None:
    file = written(tmp_path, {"history": [{"user": "one", "bot": "no"}, {"user": "two", "bot": "no"}]})
    (talk,) = load_conversations(rows(file, column="history", text_key="user", role_key=None))
    assert talk.turns == ("one", "two")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (["hello", " \n"], "turn 2 of the user is empty"),
        ([], "the user says nothing"),
        ([{"role": "assistant", "content": "hi"}], "the user says nothing"),
        (["hello", None], "turn 2 of the user is no text, but NoneType"),
        ([["hello"]], "turn 1 of the user is no text, but list"),
        ([{"role": "usr", "content": "hi"}], "a turn has the role 'usr'; allowed: user, system, assistant"),
        ([{"role": "user", "body": "hi"}], "a turn has no 'content', only role, body"),
        ([{"content": "hi"}], "a turn has no 'role'"),
        (["hello", {"role": "system", "content": "be kind"}], "a system prompt must be the first turn"),
    ],
)
def test_a_bad_conversation_is_named_with_file_and_line(tmp_path: Path, turns: Any, said: str) -> None:
    file = written(tmp_path, {"turns": ["fine"]}, {"turns": turns})
    with pytest.raises(DapaError) as error:
        load_conversations(rows(file, 2))
    assert str(error.value).startswith(f"{file}: line 3: {said}")


@pytest.mark.parametrize("opening", ["2", "-1", None, "x"])
def test_an_opening_is_shorter_than_its_conversation(tmp_path: Path, opening: Any) -> None:
    file = written(tmp_path, {"turns": ["hello", "and now?"], "opening": opening})
    with pytest.raises(DapaError, match=r"line 1: .*0 to 1 are allowed"):
        load_conversations(rows(file, opening_column="opening"))


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, {"turns": ["hello"]})
    with pytest.raises(DapaError, match=r"no column 'turn'\. Did you mean 'turns'"):
        load_conversations(rows(file, column="turn"))
    with pytest.raises(DapaError, match=r"no column 'message_\*' with a number; it has: turns"):
        load_conversations(rows(file, column="message_*"))


def with_conversations(talks: ConversationRows, **changed: Any) -> Dataset:
    return quick_config().dataset.model_copy(update={"conversations": talks, **changed})


def test_a_conversation_that_repeats_or_asks_what_the_search_asks_is_left_out_and_counted(tmp_path: Path) -> None:
    searched = load_prompts(quick_config().dataset).search[0].text
    turns = [["hello", "one"], ["Hello", "one"], ["hello", f"{searched}!"], ["hello", "two"]]
    sets = load_prompts(with_conversations(rows(written(tmp_path, *({"turns": each} for each in turns)), 4)))
    assert [talk.turns[-1] for talk in sets.conversations] == ["one", "two"]
    kept = sets.kept["conversations"]
    assert (kept.named, kept.repeated, kept.searched, kept.used) == (4, 1, 1, 2)
    assert sets.turns == ["turn1", "turn2"]
    assert "conversations" in sets.digests()


def test_the_data_sets_system_prompt_opens_every_conversation_and_no_second_one_does(tmp_path: Path) -> None:
    plain = rows(written(tmp_path, {"turns": ["hello"]}))
    (talk,) = load_prompts(with_conversations(plain, system_prompt="be kind")).conversations
    assert talk.system == "be kind"
    own = rows(written(tmp_path, {"turns": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}))
    with pytest.raises(DapaError, match="set it to null"):
        load_prompts(with_conversations(own, system_prompt="be kind"))


def test_conversations_count_in_the_identity_and_their_absence_does_not() -> None:
    plain, talks = quick_config(), quick_config("dataset=miniature_conversations")
    assert "conversations" not in essence(plain)["dataset"]
    assert essence(talks)["dataset"]["conversations"]["digest"]
    assert identity(plain) != identity(talks)
