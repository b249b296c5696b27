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


def test_what_killed_processes_left_is_cleaned_before_a_sweep_starts(tmp_path: Path) -> None:
    words = ["-m", "search=all,none", f"record.dir={tmp_path}"]
    done, other = jobs(words)
    left = [
        done.folder.parent / ".sweep.json.4711",
        done.folder / ".record.json.4711",
        done.folder / "references" / "a",
    ]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (done.folder / "record.json").write_text("{}")
    make_room([done, other])
    assert not [file for file in left if file.exists()]
    assert {path.name for path in done.folder.parent.iterdir()} == {done.folder.name, "sweep.json"}
    assert {path.name for path in done.folder.iterdir()} == {"record.json"}
