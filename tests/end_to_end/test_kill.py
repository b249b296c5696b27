"""Whatever is killed, whenever: the same command finishes, no query is repeated, and the table is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.faults import Campaign
from tests.cluster.outcome import queries, result
from tests.commands import Said, started, wait_until
from tests.settings import quick

Dapa = Callable[..., Said]
BASE = "pair=mini-llama-small-base"
PAIRS = "pair=mini-llama-small-base,mini-llama-small-style,mini-gemma-small-base,mini-mistral-base"


@pytest.mark.slow
def test_a_sweep_killed_and_damaged_at_random_moments_finds_the_same(tmp_path: Path) -> None:
    campaign = Campaign("isolated", random.Random(3), tmp_path, runs=4)
    campaign.carry_out(kills=5)
    assert campaign.sweeps > 0
    assert campaign.kills >= 5


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(here: Dapa, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    with started(*quick(BASE), f"record.dir={killed}", cwd=killed):
        wait_until(lambda: any(file.read_bytes().count(b"\n") >= 5 for file in killed.glob("*/*/search.jsonl")))
    (trace,) = killed.glob("single/*/search.jsonl")
    completions = trace.parent / "generations" / "search.jsonl"
    kept, generated = trace.read_bytes(), completions.read_bytes()
    trace.write_bytes(kept + b'{"index": 77, "label": "r1/c')
    completions.write_bytes(generated + b'{"weights": "layers.0.mlp", "prompt": "harm')

    said = here(*quick(BASE), f"record.dir={killed}")
    assert said.code == 0, said.err
    assert trace.read_bytes().startswith(kept)
    assert completions.read_bytes().startswith(generated)
    assert all(json.loads(line) for line in completions.read_bytes().splitlines())
    assert here(*quick(BASE), f"record.dir={tmp_path}/whole").code == 0
    (whole,) = tmp_path.glob("whole/single/*/record.json")
    assert queries(trace) == queries(whole.with_name("search.jsonl"))
    assert result(trace.parent) == result(whole.parent)


@pytest.mark.slow
def test_two_sweeps_at_once_and_ctrl_c(here: Dapa, tmp_path: Path) -> None:
    longer = ("dataset.search.rows=[0,96]", "search.threshold=1.0")  # than it takes to notice that both have begun
    words = quick("-m", BASE, "search.seed=1,2", "runtime.processes=2", f"record.dir={tmp_path}", *longer)
    with started(*words, cwd=tmp_path) as first:
        wait_until(lambda: len(list(tmp_path.glob("single/*/search.jsonl"))) == 2)
        os.killpg(first.pid, signal.SIGSTOP)  # it keeps its hands on its runs
        second = here(*words)
        os.killpg(first.pid, signal.SIGCONT)
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(30) == 130
    assert second.code == 1
    assert "Traceback" not in second.err
    assert second.err.count("another process is working on this run") == 2
    said = (tmp_path / "said.txt").read_text()
    assert "interrupted: the same command goes on from here" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("error.json"))
    assert here(*words).code == 0


def test_a_finished_run_is_not_done_again(here: Dapa, tmp_path: Path) -> None:
    first = here(*quick(BASE))
    (record,) = tmp_path.rglob("record.json")
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in (record, record.parent / "search.jsonl")}
    for words in (quick(BASE), quick("-m", BASE)):
        again = here(*words)
        assert again.code == 0
        assert again.out == first.out
        assert not again.err
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before

    record.write_bytes(record.read_bytes()[:900])
    assert "record.json: not a valid record" in here(*quick(BASE)).complaint
    sweep = here(*quick("-m", BASE))
    assert sweep.code == 1
    assert "record.json is damaged" in sweep.err
    assert len(record.read_bytes()) == 900


@pytest.mark.slow
def test_ctrl_c_while_the_libraries_are_loaded_is_one_line(tmp_path: Path) -> None:
    with started(*quick("-m", PAIRS, f"record.dir={tmp_path}"), cwd=tmp_path) as sweep:
        wait_until(lambda: b"runs: 0/4" in (tmp_path / "said.txt").read_bytes())
        time.sleep(1)
        os.killpg(sweep.pid, signal.SIGINT)
        assert sweep.wait(30) == 130
        time.sleep(2)  # the sweep's other processes end later
    assert (tmp_path / "said.txt").read_text().splitlines() == [
        "runs: 0/4",
        "interrupted: the same command goes on from here",
    ]
