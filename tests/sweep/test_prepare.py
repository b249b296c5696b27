"""What is asked of a sweep is on disk before it starts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dapa_exp.cli.compose import jobs
from dapa_exp.sweep.prepare import make_room


def test_sweeps_that_begin_at_the_same_time_in_one_folder_are_all_listed(tmp_path: Path) -> None:
    every = jobs(["-m", "search=all,none,auto,ddmin,deletion,range", f"record.dir={tmp_path}"])
    with ThreadPoolExecutor(len(every)) as sweeps:
        list(sweeps.map(make_room, [[job] for job in every]))
    listed = json.loads((tmp_path / "single" / "sweep.json").read_text())["runs"]
    assert {run["search"] for run in listed} == {job.config.search.algorithm for job in every}
