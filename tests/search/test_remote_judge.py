"""A search with a judge on another machine: it finds what a judge here would, and ends where the judge does."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.schema import Config
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.judges.server import body_bytes, fails, says, serving
from tests.settings import quick_config


def settings(*words: str) -> Config:
    teacher = "family.teacher.id=zoo:llama-small-planted"
    return quick_config("pair=mini-llama-small-style", "granularity=mlp", teacher, "search=auto", *words)


def by_phrases(body: dict[str, Any]) -> str:
    """The reply of a model that goes by the phrases, and takes its time."""
    time.sleep(0.02)
    material = json.loads(body["messages"][-1]["content"])
    (verdict,) = PhraseJudge().verdicts([material["request"]], [material["answer"]])
    return json.dumps({"verdict": verdict})


def refuse_key(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    time.sleep(0.2)
    body_bytes(handler, 401, b'{"error": {"message": "no"}}')


SAME = ("label", "units", "prompts", "score", "verdicts")


def lines(file: Path) -> list[dict[str, Any]]:
    """Those that are whole, of a file that may be written to."""
    text = file.read_text() if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models that are there, and a cache of replies that is new."""
    build(["llama-small-style", find("llama-small-planted").name], silent)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "zoo").symlink_to(cache_root() / "zoo")
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("zoo")
def test_a_judge_that_refuses_the_key_says_so(tmp_path: Path) -> None:
    with serving(refuse_key) as server, pytest.raises(DapaError, match=r"judge chat: .* no"):
        run(settings("judge=chat", f"judge.base_url={server.url}", "judge.attempts=1"), tmp_path / "run", silent)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("queries", [0, 1])
def test_a_judge_that_no_longer_answers_stops_the_search_and_decides_nothing(tmp_path: Path, queries: int) -> None:
    here = run(settings(), tmp_path / "here", silent)
    folder, out_of_order = tmp_path / "there", [True]

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        broken = out_of_order[0] and len(lines(folder / "search.jsonl")) >= queries
        (fails(500) if broken else says(by_phrases))(handler, body)

    with serving(answer) as server:
        config = settings("judge=chat", f"judge.base_url={server.url}", "judge.attempts=1")
        with pytest.raises(DapaError, match=r"judge chat: no verdict on \d+ of \d+ answers of the search"):
            run(config, folder, silent)
        assert len(lines(folder / "search.jsonl")) == queries
        assert queries or not any(folder.glob("metrics/*")), "a teacher's report without verdicts would have been kept"
        out_of_order[0] = False
        there = run(config, folder, silent)
    assert there.search.units_found == here.search.units_found
    assert there.search.status == "certified"
    ours, theirs = (lines(tmp_path / place / "search.jsonl") for place in ("there", "here"))
    assert [[line[key] for key in SAME] for line in ours] == [[line[key] for key in SAME] for line in theirs]
