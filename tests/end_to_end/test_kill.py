"""Whatever is killed, whenever: the same command finishes, no query is repeated, and the table is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dapa_exp.record.schema import Record
from tests.commands import Said, started, wait_until
from tests.settings import quick

Dapa = Callable[..., Said]
BASE = "pair=mini-llama-small-base"
PAIRS = "pair=mini-llama-small-base,mini-llama-small-style,mini-gemma-small-base,mini-mistral-base"


def queries(run: Path) -> list[dict[str, Any]]:
    """The trace of a run, without what differs from process to process: the time, and the work that memory spared."""
    lines = [json.loads(line) for line in (run / "search.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "work")} for line in lines]


def progress(folder: Path) -> int:
    """How much a sweep has on disk, in lines."""
    return sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.jsonl"))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def runs_of(sweep: subprocess.Popen[bytes]) -> list[int]:
    """The processes of a sweep that carry out a run."""
    return [run for server in children(sweep.pid) for run in children(server)]


def let_work(sweep: subprocess.Popen[bytes], folder: Path, moments: random.Random) -> None:
    """Wait until a sweep has got on by some lines, and a moment more, and is at a run."""
    enough = progress(folder) + moments.randint(1, 50)
    wait_until(lambda: progress(folder) >= enough and runs_of(sweep))
    time.sleep(moments.uniform(0, 0.2))
    assert sweep.poll() is None, (folder / "said.txt").read_text()


def table(folder: Path) -> pd.DataFrame:
    """The main table of a sweep, without times."""
    (file,) = folder.glob("*/report/main.csv")
    results = pd.read_csv(file)
    return results[[name for name in results if "seconds" not in str(name)]]


def result(run: Path) -> dict[str, Any]:
    """All of a record that is to be the same, however often the run was interrupted."""
    record = Record.model_validate_json((run / "record.json").read_text())
    return record.model_dump(
        exclude={"cost": True, "provenance": {"created"}, "search": {"ledger": {"seconds", "work"}}}
    )


@pytest.mark.slow
def test_a_sweep_killed_five_times(here: Dapa, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = quick("-m", PAIRS)
    said = here(*words, f"record.dir={whole}")
    assert said.code == 0, said.err

    moments = random.Random(7)
    killed.mkdir()
    for _ in range(5):
        with started(*words, f"record.dir={killed}", cwd=killed) as sweep:
            let_work(sweep, killed, moments)
            os.kill(moments.choice(runs_of(sweep)), signal.SIGKILL)
            let_work(sweep, killed, moments)
            os.killpg(sweep.pid, signal.SIGKILL)
    said = here(*words, f"record.dir={killed}")
    assert said.code == 0, said.err

    runs = sorted(file.parent.name for file in whole.glob("*/*/record.json"))
    assert len(runs) == 4
    for name in runs:
        ours, theirs = killed / "single" / name, whole / "single" / name
        asked = [frozenset(query["units"]) for query in queries(ours)]
        assert len(set(asked)) == len(asked)
        assert [query["index"] for query in queries(ours)] == list(range(len(asked)))
        assert queries(ours) == queries(theirs)
        assert result(ours) == result(theirs)
    pd.testing.assert_frame_equal(table(killed), table(whole))


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
    assert queries(trace.parent) == queries(whole.parent)
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
