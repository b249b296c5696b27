"""What a real run leaves in its folder, and that nothing which only reads it changes anything there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.cli.dispatch import main
from dapa_exp.config.schema import Config
from dapa_exp.record.folder import RunFolder, open_run
from dapa_exp.record.identity import identity
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.status import run_status
from dapa_exp.run import run
from dapa_exp.zoo import store
from tests.analysis.factory import record
from tests.commands import Said
from tests.settings import quick, quick_config

Dapa = Callable[..., Said]
BASE = "pair=mini-llama-small-base"


def files(run: Path) -> dict[Path, tuple[int, bytes]]:
    """All there is but Hydra's notes, which are of the last command."""
    every = [path for path in run.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in every}


def test_the_log_of_a_run_tells_stages_and_queries_and_a_finished_run_is_only_read(here: Dapa, tmp_path: Path) -> None:
    assert here(*quick(BASE)).code == 0
    (record,) = tmp_path.rglob("record.json")
    run = record.parent
    log = (run / "run.log").read_text()
    for stage in ("load", "teacher", "search", "student", "transplant", "hybrid", "random"):
        assert f"{stage}: begins" in log
        assert f"{stage}: took" in log
    assert log.count(" units, DSR ") == (run / "search.jsonl").read_text().count("\n") - 2  # two set the bar
    assert log.splitlines()[-1].startswith("random: took") or "the run is done" in log.splitlines()[-1]

    before = files(run)
    assert here("plan", *quick(BASE)[1:]).code == 0
    assert main(["status", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "hybrid")]) == 0
    assert files(run) == before
    report = {path for path in before if path.parent.name == "report"}
    assert main(["report", str(run)]) == 0
    assert here(*quick(BASE)).code == 0
    assert {path: seen for path, seen in files(run).items() if path not in report} == {
        path: seen for path, seen in before.items() if path not in report
    }


def test_a_pairs_differences_are_said_before_the_search_and_in_the_log(
    here: Dapa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(store.path("llama-small-style"), tmp_path / "student")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "float16"}))
    said = here(*quick(f"pair.student.id={folder}", "search=none"))
    note = "note: mini-llama-small-style: dtype: teacher float32, student float16"
    assert said.code == 0
    lines = said.err.splitlines()
    assert lines.index(note) < next(place for place, line in enumerate(lines) if "evaluate teacher" in line)
    (log,) = tmp_path.rglob("run.log")
    assert note in log.read_text()


def test_a_run_that_another_process_finishes_meanwhile_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick_config(BASE)
    finished = record().model_copy(update={"identity": identity(config)})

    @contextmanager
    def a_moment_later(path: Path, config: Config) -> Iterator[RunFolder]:
        RunLayout(path).record.write_text(finished.model_dump_json())
        with open_run(path, config) as opened:
            yield opened

    monkeypatch.setattr("dapa_exp.run.open_run", a_moment_later)
    assert run(config, tmp_path, silent) == finished


def test_a_mirror_that_fails_is_listed_at_the_end_and_the_run_is_done(
    here: Dapa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    said = here(*quick(BASE, "record.wandb=online"))
    assert said.code == 0
    (record,) = tmp_path.rglob("record.json")
    listed = said.err.splitlines()[-1]
    assert listed.startswith(f"not mirrored: {record.parent}: Weights & Biases (online) failed: ")
    assert listed.endswith("the record is safe, and `dapa mirror` tries again")
    assert main(["status", str(record.parent)]) == 0
    assert "not mirrored: " in capfd.readouterr().out


def test_a_run_that_stops_after_its_search_goes_on_from_there(here: Dapa, tmp_path: Path) -> None:
    said = here(*quick(BASE, "record.until=search"))
    assert said.code == 0
    assert "1 of 1 searches are done" in said.out
    (found,) = tmp_path.rglob("found.json")
    files = RunLayout(found.parent)
    searched = files.read_search()
    assert not files.record.exists()
    assert not files.error.exists()
    asked = files.queries.read_bytes()
    assert run_status(found.parent).state == "searched"
    assert here(*quick(BASE, "record.until=search")).code == 0
    assert here(*quick(BASE)).code == 0
    assert files.queries.read_bytes() == asked
    assert files.read_record().search == searched


def test_a_damaged_result_names_its_file_and_is_kept(here: Dapa, tmp_path: Path) -> None:
    assert here(*quick(BASE)).code == 0
    (record,) = tmp_path.rglob("record.json")
    run = record.parent
    record.unlink()
    for name, damage in (("found.json", b"{}"), ("metrics/teacher-search.json", b"{}"), ("search.jsonl", b"\xff")):
        file = run / name
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b'"', damage, 1) if file.suffix == ".jsonl" else damage)
        damaged = file.read_bytes()
        complaint = here(*quick(BASE)).complaint
        assert str(file) in complaint
        assert "damaged" in complaint
        assert file.read_bytes() == damaged
        file.write_bytes(whole)
    assert here(*quick(BASE)).code == 0
