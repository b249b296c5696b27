"""Runs as tasks of Ray. Skipped where Ray is not installed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cluster.faults import ancestors
from tests.commands import started, wait_until
from tests.settings import quick

pytest.importorskip("ray")


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_run_goes_on_in_the_same_command(tmp_path: Path) -> None:
    longer = ("dataset.search.rows=[0,48]", "search.threshold=1.0")
    words = quick("-m", "pair=mini-llama-small-base", "search.seed=1,2", *longer, "hydra/launcher=ray")
    with started(*words, f"record.dir={tmp_path}", cwd=tmp_path) as command:
        wait_until(lambda: any(len(f.read_bytes().splitlines()) > 3 for f in tmp_path.glob("single/*/search.jsonl")))
        (claim, *_) = tmp_path.glob("single/*/.claim-*")
        trace = claim.parent / "search.jsonl"
        above = {name: process for process, name in ancestors(json.loads(claim.read_bytes())["pid"])}
        os.kill(above["Ray worker"], signal.SIGKILL)
        kept = trace.read_bytes()
        assert command.wait(300) == 0, (tmp_path / "said.txt").read_text()
    assert trace.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    queries = [frozenset(json.loads(line)["units"]) for line in trace.read_bytes().splitlines()]
    assert len(set(queries)) == len(queries)
    assert (trace.parent / "run.log").read_text().count("opened by") == 2
    assert len(list(tmp_path.glob("single/*/record.json"))) == 2
