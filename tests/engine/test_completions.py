"""Completions on disk: none is generated twice, and what is missing of a batch is generated as part of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import Completion, Decided, PlainEngine, Request
from dapa_exp.prompts.prompt import Prompt, prompt
from dapa_exp.record.folder import RunFolder
from tests.settings import quick_config
from tests.tiny import tiny_loaded

PROMPTS = tuple(
    prompt(f"p{i}", text) for i, text in enumerate(["hi", "what is 3 plus 4?", "bake a cake", "fix a lamp", "go"])
)


class CountingEngine(PlainEngine):
    """The reference engine, which remembers what it was asked to generate."""

    def __init__(self) -> None:
        super().__init__(tiny_loaded("llama", 6), batch_size=2)
        self.generated: list[list[str]] = []

    def answers(self, request: Request) -> dict[int, Completion]:
        self.generated.append([prompt.text for prompt in request.prompts])
        return super().answers(request)


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


def complete(folder: Path, engine: PlainEngine, weights: str = "student") -> list[Completion]:
    return CompletionStore(RunFolder(folder, quick_config()), "report").complete(engine, weights, Request(PROMPTS, 6))


def test_what_is_on_disk_is_not_generated_again(tmp_path: Path, engine: CountingEngine) -> None:
    first = complete(tmp_path, engine)
    assert [len(batch) for batch in engine.generated] == [2, 2, 1]
    assert complete(tmp_path, engine) == first
    assert len(engine.generated) == 3
    complete(tmp_path, engine, weights="hybrid")
    assert len(engine.generated) == 6


@pytest.mark.parametrize("torn", [b"", b'{"weights": "student", "prom'], ids=["whole lines", "torn line"])
def test_what_a_batch_lacks_on_disk_is_generated_in_its_company(
    tmp_path: Path, engine: CountingEngine, torn: bytes
) -> None:
    first = complete(tmp_path, engine)
    file = tmp_path / "generations" / "report.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + torn)
    engine.generated.clear()
    assert complete(tmp_path, engine) == first
    assert engine.generated == [["bake a cake", "fix a lamp"], ["go"]]
    assert [json.loads(line)["prompt"] for line in file.read_bytes().splitlines()] == [row.id for row in PROMPTS]


def test_only_rows_that_are_asked_for_are_generated_and_an_engine_that_gave_more_is_not_asked_again(
    tmp_path: Path,
) -> None:
    plain, fast = CountingEngine(), FastEngine(tiny_loaded("llama", 6), 2, reuse_bytes=10**9)
    for engine, lines in ((plain, 4), (fast, 2)):
        store = CompletionStore(RunFolder(tmp_path / type(engine).__name__, quick_config()), "search")
        first = store.complete(engine, "student", Request(PROMPTS, 6, frozenset({3, 0})))
        file = tmp_path / type(engine).__name__ / "generations" / "search.jsonl"
        assert len(file.read_text().splitlines()) == lines
        whole = store.complete(engine, "student", Request(PROMPTS, 6))
        assert first == [whole[0], whole[3]]
        assert whole == complete(tmp_path / "reference", CountingEngine())
    assert [len(batch) for batch in plain.generated] == [2, 2, 1]


def test_cut_answers_say_so_on_disk_and_are_never_taken_for_whole_ones(tmp_path: Path) -> None:
    fast = FastEngine(tiny_loaded("llama", 6), 2, reuse_bytes=10**9)
    run = RunFolder(tmp_path, quick_config())

    def completed(decided: Decided | None) -> list[Completion]:
        """By a process of its own, as it were."""
        return CompletionStore(run, "search").complete(fast, "student", Request(PROMPTS, 6, decided=decided))

    first = completed(at_once)
    assert {answer.cut for answer in first} == {True}
    lines = [json.loads(line) for line in (tmp_path / "generations" / "search.jsonl").read_text().splitlines()]
    assert all(line["cut"] for line in lines)
    before = fast.work
    assert completed(at_once) == first
    assert fast.work == before
    whole = complete(tmp_path, CountingEngine())
    assert completed(None) == whole
    assert completed(at_once) == whole


def at_once(row: Prompt, beginning: str) -> bool:
    return True
