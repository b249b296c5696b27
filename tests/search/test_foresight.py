"""What will be asked next is known beforehand, and answered while a judge on another machine is at work."""

from __future__ import annotations

import json
import time
from functools import partial
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
from dapa_exp.search import ALGORITHMS, Budget, Settings, search
from dapa_exp.search.foresight import next_query
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.benchmarks.planted import KINDS, layers
from tests.judges.server import body_bytes, fails, says, serving
from tests.settings import quick_config


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_next_query_of_every_algorithm_is_foreseen(algorithm: str, kind: str) -> None:
    planted = KINDS[kind](layers(10), 0)
    hunt = partial(search, algorithm, planted.units, settings=Settings(k=3), budget=Budget(queries=40))
    queries = hunt(planted.test).queries
    known = {frozenset(query.units): query.outcome for query in queries}
    for count, query in enumerate(queries):
        assert next_query(hunt, dict(list(known.items())[:count])) == frozenset(query.units)
    assert next_query(hunt, known) is None


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
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_a_search_with_a_judge_elsewhere_finds_the_same_and_answers_ahead(tmp_path: Path, engine: str) -> None:
    here = run(settings(f"runtime.engine={engine}"), tmp_path / "here", silent)
    ahead: list[int] = []

    def judge(body: dict[str, Any]) -> str:
        reply = by_phrases(body)
        answered = {line["weights"] for line in lines(tmp_path / "there" / "generations" / "search.jsonl")}
        ahead.append(len(answered) - len(lines(tmp_path / "there" / "search.jsonl")))
        return reply

    with serving(says(judge)) as server:
        words = ("judge=chat", f"judge.base_url={server.url}", "judge.concurrency=2")
        there = run(settings(f"runtime.engine={engine}", *words), tmp_path / "there", silent)
    assert max(ahead) > 1, "while a set was judged, no other was answered"
    assert there.search.units_found == here.search.units_found
    assert there.search.status == "certified"
    ours, theirs = (lines(tmp_path / place / "search.jsonl") for place in ("there", "here"))
    for line, other in zip(ours, theirs, strict=True):
        assert [line[key] for key in SAME] == [other[key] for key in SAME]


@pytest.mark.usefixtures("zoo")
def test_a_judge_that_fails_meanwhile_says_so(tmp_path: Path) -> None:
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
