from __future__ import annotations

import io
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from dapa_exp.base.errors import DapaError
from dapa_exp.cli import status as cli
from dapa_exp.cli.status import show
from dapa_exp.record import identity as identities
from dapa_exp.record.folder import claim_folder, open_run
from dapa_exp.record.status import Work, status
from tests.analysis.factory import (
    name_of,
    record,
    write_config,
    write_failure,
    write_queries,
    write_run,
    write_settings,
    write_sweep,
)
from tests.settings import quick_config


def test_every_state_is_told_apart_with_its_reason(tmp_path: Path) -> None:
    done, failed, interrupted, missing, begun = (record(pair) for pair in ("a", "b", "c", "d", "e"))
    sweep = write_sweep(tmp_path, [done], [failed, interrupted, missing, begun])
    write_failure(sweep, failed, "out of memory")
    write_config(sweep / name_of(interrupted), interrupted)
    write_queries(sweep / name_of(interrupted), 7)
    write_config(sweep / name_of(begun), begun)
    runs = {run.pair: run for run in status(sweep)}
    assert {pair: run.state for pair, run in runs.items()} == {
        "a": "done",
        "b": "failed",
        "c": "interrupted",
        "d": "missing",
        "e": "missing",
    }
    assert runs["a"].record == done
    assert runs["b"].reason == "search: out of memory"
    assert runs["c"].reason == "stopped after 7 queries of the search"
    assert runs["d"].reason == "not started"
    assert runs["e"].reason == "stopped before the search"
    assert runs["d"].granularity == "mlp"


def test_a_run_of_an_older_identity_is_read_and_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick_config("pair=mini-llama-small-base")
    with monkeypatch.context() as older:
        older.setattr(identities, "IDENTITY_VERSION", 2)
        known = identities.identity(config)
        with open_run(tmp_path / "old", config):
            pass
    assert known != identities.identity(config)
    with (
        pytest.raises(DapaError, match="holds another run; these keys differ: version"),
        open_run(tmp_path / "old", config),
    ):
        pass
    (run,) = status(tmp_path)
    assert run.outdated == "by code that finds other results (identity version 2, now 3); not gone on with"
    done = record("a")
    folder = write_run(tmp_path, done)
    write_settings(tmp_path, done, {"version": 2})
    finished = next(run for run in status(tmp_path) if run.path == folder)
    assert (finished.state, finished.record) == ("done", done)
    screen = io.StringIO()
    show([finished], Console(file=screen, width=200))
    assert "identity version 2, now 3" in screen.getvalue()


def test_a_run_that_is_being_worked_on_is_running(tmp_path: Path) -> None:
    with open_run(tmp_path, quick_config("pair=mini-llama-small-base")):
        assert [(run.state, run.reason) for run in status(tmp_path)] == [("running", "before the search")]
        write_queries(tmp_path, 7)
        assert [(run.state, run.reason) for run in status(tmp_path)] == [("running", "after 7 queries of the search")]
    assert status(tmp_path)[0].state == "interrupted"
    before = set(tmp_path.iterdir())
    assert status(tmp_path)[0].state == "interrupted"
    assert set(tmp_path.iterdir()) == before


def test_how_far_a_run_is_and_who_works_where_is_shown_and_what_to_do_next(tmp_path: Path) -> None:
    done, other = record("a"), record("b")
    sweep = write_sweep(tmp_path, [done], [other])
    folder = sweep / name_of(other)
    write_config(folder, other)
    (folder / "run.log").write_text("2026-11-26T08:00:00Z load: begins\n2026-11-26T08:00:02Z search: begins\n")
    (folder / "cost.jsonl").write_text('{"stage": "load", "seconds": 2.5, "tokens": 0, "peak_memory_bytes": 1}\n')
    query = '{"index": 0, "units": [], "score": 0.5, "verdicts": {}, "tokens": 300, "seconds": 1.5}\n'
    (folder / "search.jsonl").write_text(query * 2 + '{"index": 2, "units"')
    console = Console(file=io.StringIO(), width=200)
    with claim_folder(folder):
        _, run = status(sweep)
        assert run.work == Work("search", 2, 200.0, 5.5)
        show([_, run], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    whole = sum(stage.seconds for stage in done.cost.values())
    left = timedelta(seconds=round(max(0, whole - 5.5)))
    line = next(line.split() for line in text.splitlines() if line.startswith("b"))
    assert line[1:6] == ["running", "search", "2", "200", str(left)]
    assert f"process {os.getpid()} on {platform.node()}, since 2" in text
    assert f"2 runs: 1 done, 1 running; about {left} left, 1 at a time" in text
    assert f"dapa status --watch {sweep} follows" in text


def test_whoever_watches_through_a_pipe_reads_a_line_a_change_and_then_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = record("b")
    sweep = write_sweep(tmp_path, [record("a")], [other])
    write_config(sweep / name_of(other), other)
    monkeypatch.setattr(cli, "WATCH_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as pool:
        with claim_folder(sweep / name_of(other)):
            watching = pool.submit(cli.status_command, ["--watch", str(sweep)])
            time.sleep(1)
        assert watching.result(60) == 1
    first, *table, last = capsys.readouterr().out.splitlines()
    assert first == "2 runs: 1 done, 1 running"
    assert len(table) == 4
    assert last == "next: give the same command again; it goes on from here"


def test_the_end_of_a_log_is_shown_where_it_says_more_than_the_reason(tmp_path: Path) -> None:
    folder = write_failure(tmp_path, record("a"), "the student is gone")

    def shown() -> str:
        console = Console(file=io.StringIO(), width=300)
        show(status(folder), console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    (folder / "run.log").write_text("2026-11-26T08:00:02Z search: begins\n")
    assert "run.log ends: 2026-11-26T08:00:02Z search: begins" in shown()
    (folder / "run.log").write_text("2026-11-26T08:00:02Z failed: the student is gone\n")
    assert shown().count("the student is gone") == 1


def test_a_run_that_no_sweep_asked_for_is_found_too(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a")])
    write_run(sweep, record("b"))
    (sweep / "report").mkdir()
    assert [run.pair for run in status(sweep)] == ["a", "b"]


def test_a_single_run_folder(tmp_path: Path) -> None:
    folder = write_failure(tmp_path, record("a"), "boom", kind="RuntimeError")
    (run,) = status(folder)
    assert (run.pair, run.family, run.search, run.state) == ("a", "mini-llama", "ddmin", "failed")
    assert run.reason == "search: RuntimeError: boom"


def test_a_search_is_named_by_its_prior_even_where_there_was_nothing_to_search_for(tmp_path: Path) -> None:
    asked = record("a", prior="attribution", identity="1" * 64)
    nothing = record("a", status="no_gain", identity="1" * 64)
    sweep = write_sweep(tmp_path, [asked])
    folder = sweep / name_of(asked)
    (folder / "record.json").write_text(nothing.model_dump_json())
    assert [status(place)[0].search for place in (sweep, folder)] == ["ddmin+attribution"] * 2


def test_the_reason_of_a_killed_run_is_its_message(tmp_path: Path) -> None:
    folder = write_failure(tmp_path, record("a"), "the process was killed", kind="killed", stage="unknown")
    assert status(folder)[0].reason == "the process was killed"


@pytest.mark.parametrize("damage", ['{"schema_version": 2, "ident', '{"schema_version": 3}'])
def test_a_damaged_record_is_a_failed_run(tmp_path: Path, damage: str) -> None:
    folder = write_run(write_sweep(tmp_path, []), record("a"))
    (folder / "record.json").write_text(damage)
    (run,) = status(folder)
    assert run.state == "failed"
    assert run.reason is not None
    assert run.reason.startswith("record.json is damaged: ")
    assert "\n" not in run.reason
    assert run.pair == "a"


def test_a_record_of_another_identity_is_not_the_run_that_was_asked_for(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a")])
    other = record("a", identity="f" * 64)
    (sweep / name_of(record("a")) / "record.json").write_text(other.model_dump_json())
    (run,) = status(sweep)
    assert run.state == "failed"
    assert "ffffffff" in str(run.reason)


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match="no such folder"):
        status(tmp_path / "nowhere")
    with pytest.raises(DapaError, match="holds no runs"):
        status(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": [{"folder": "a"}]}))
    with pytest.raises(DapaError, match=r"sweep\.json"):
        status(tmp_path)


def test_show_prints_a_line_a_run_and_only_settings_that_differ(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("a", granularity="layer")], [record("b")])
    write_failure(sweep, record("b"), "no [gpu] here")
    console = Console(file=io.StringIO(), width=100)
    show(status(sweep), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "layer" in text
    assert "ddmin" not in text
    assert "search: no [gpu] here" in text
    assert "3 runs: 2 done, 1 failed" in text


def test_runs_that_look_alike_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    alike = [record("a", identity=digit * 64) for digit in "12"]
    console = Console(file=io.StringIO(), width=120)
    show(status(write_sweep(tmp_path, alike)), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [name_of(run) in text for run in alike] == [True, True]
