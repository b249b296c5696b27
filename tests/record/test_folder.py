"""A run's folder: nothing half-written is trusted, nothing whole is lost, and one process has it at a time."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress
from dapa_exp.record.folder import RunFolder, claim_folder, open_run, read_record, tidy
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.log import log_progress
from dapa_exp.record.measure import Measure
from tests.analysis.factory import record
from tests.settings import quick_config

CONFIG = quick_config("pair=mini-llama-small-base")


class Line(BaseModel):
    """A line of a journal of numbers."""

    index: int


MEASURES = TypeAdapter(dict[str, Measure])


def test_what_was_computed_is_remembered(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, CONFIG)
    asked: list[int] = []

    def compute() -> dict[str, Measure]:
        asked.append(1)
        return {"value": Measure(value=0.1 + 0.2, n=3)}

    file = run.files.metric("hybrid", "a")
    assert [run.load_or_compute(file, MEASURES, compute) for _ in range(2)] == [
        {"value": Measure(value=0.1 + 0.2, n=3)}
    ] * 2
    assert asked == [1]


@pytest.mark.parametrize("damage", ["{", '{"value": {}}', '{"value": {"value": "high", "n": 1}}', "[]", "\udcff"])
def test_what_is_remembered_wrongly_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path, CONFIG)
    file = run.files.metric("hybrid", "a")
    file.parent.mkdir()
    file.write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(DapaError, match=r"metrics/hybrid-a\.json: damaged: .*; move it away, and the same command"):
        run.load_or_compute(file, MEASURES, lambda: pytest.fail("was computed over it"))
    assert file.read_bytes() == damage.encode(errors="surrogateescape")


def test_what_stages_cost_is_counted_over_all_processes(tmp_path: Path) -> None:
    def search(tokens: int, stop: bool) -> RunFolder:
        with open_run(tmp_path / "run", CONFIG) as run, run.run_stage("search"):
            run.tokens += tokens
            if stop:
                raise KeyboardInterrupt
        return run

    with pytest.raises(KeyboardInterrupt):
        search(5, stop=True)
    (cost,) = search(3, stop=False).cost().items()
    assert cost[0] == "search"
    assert cost[1].tokens == 8


def test_a_failure_leaves_its_reason_and_the_next_attempt_removes_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_run(tmp_path, CONFIG) as run, run.run_stage("search"):
        raise RuntimeError("boom")
    error = json.loads((tmp_path / "error.json").read_text())
    assert (error["kind"], error["message"], error["stage"]) == ("RuntimeError", "boom", "search")
    with open_run(tmp_path, CONFIG):
        assert not (tmp_path / "error.json").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupt_is_no_failure(tmp_path: Path, end: type[BaseException]) -> None:
    with pytest.raises(end), open_run(tmp_path, CONFIG):
        raise end
    assert not (tmp_path / "error.json").exists()


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(DapaError, match="no space left on the disk; results so far are kept"),
        open_run(tmp_path, CONFIG) as run,
    ):
        run.journal(tmp_path / "full.jsonl", Line).append({"index": 0})
    assert "no space left" in json.loads((tmp_path / "error.json").read_text())["message"]


def test_another_run_is_refused_with_the_keys_that_differ_and_stays_as_it_was(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        pass
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = quick_config("pair=mini-mistral-base", "search.threshold=0.8")
    with pytest.raises(DapaError, match="holds another run") as caught, open_run(tmp_path, other):
        pytest.fail("was opened")
    assert "search.threshold" in str(caught.value)
    assert "pair.student.id" in str(caught.value)
    assert "runtime" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_does_not_move_a_result_may_differ(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        before = (tmp_path / "identity.json").read_bytes()
    with open_run(tmp_path, quick_config("pair=mini-llama-small-base", "record=wandb", "runtime.threads=3")):
        assert (tmp_path / "identity.json").read_bytes() == before


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dapa_exp.record.folder import open_run;"
        "from tests.settings import quick_config\n"
        f"with open_run(Path({str(tmp_path)!r}), quick_config('pair=mini-llama-small-base')):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DapaError, match="another process is working on this run"), open_run(tmp_path, CONFIG):
            pytest.fail("was opened")
        assert not (tmp_path / "error.json").exists()
        holder.kill()
    with open_run(tmp_path, CONFIG):
        pass


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_folder_that_cannot_be_is_one_clear_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DapaError, match=r"file.*: (Not a directory|File exists)"), open_run(tmp_path / place, CONFIG):
        pytest.fail("was opened")


def test_damaged_files_are_reported_and_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record().model_dump_json()[:500])
    with pytest.raises(DapaError, match=r"record\.json: not a valid record: Invalid JSON: .*; move it away") as caught:
        read_record(tmp_path, CONFIG)
    assert "\n" not in str(caught.value)
    (tmp_path / "record.json").write_text(record().model_dump_json())
    with pytest.raises(DapaError, match=r"record\.json: of another run"):
        read_record(tmp_path, CONFIG)
    (tmp_path / "identity.json").write_text('{"identity": "13b')
    for attempt in (lambda: read_record(tmp_path, CONFIG), lambda: open_run(tmp_path, CONFIG).__enter__()):
        with pytest.raises(DapaError, match=r"identity\.json: damaged"):
            attempt()


def test_what_killed_processes_left_goes_when_the_run_is_opened_again(tmp_path: Path) -> None:
    left = [".record.json.4711", ".config.yaml.12-0123abcd", "metrics/.a.json.4711", "references/.b.4711"]
    kept = ["metrics/a.json", "references/b.safetensors", ".my.notes"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with open_run(tmp_path, CONFIG):
        pass
    assert not [name for name in left if (tmp_path / name).exists()]
    assert not [name for name in kept if not (tmp_path / name).exists()]


def test_a_finished_run_is_tidied_unless_somebody_is_at_work(tmp_path: Path) -> None:
    left = [tmp_path / ".record.json.4711", tmp_path / "references" / "teacher.safetensors"]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    (tmp_path / "record.json").write_text(record().model_dump_json())
    with claim_folder(tmp_path):
        tidy(tmp_path)
    assert all(file.exists() for file in left)
    tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"record.json"}


def test_a_folder_with_nothing_to_tidy_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record().model_dump_json())
    tidy(tmp_path)
    tidy(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_the_log_says_what_was_done_and_where_it_broke(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Progress] = []

    def work() -> None:
        with open_run(tmp_path, CONFIG) as run:
            report = log_progress(heard.append)
            with run.run_stage("load"):
                run.tokens += 7
            with run.run_stage("search"):
                report(
                    Progress(
                        "mini: search", 1, None, "round 2: without chunk 1 of 2: 3 of 8 units, DSR 0.40 on 9 rows, fail"
                    )
                )
                for done in range(5):
                    report(Progress("mini: judging", done, 5))
                logging.getLogger("somebody").warning("the judge is slow")
                logging.getLogger("somebody").info("nobody wants to know")
                assert 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()
    log = RunLayout(tmp_path).log.read_text()
    order = (
        f"process {os.getpid()} on ",
        "load: begins",
        "load: took 0.0 s, 7 tokens",
        "search: begins",
        "mini: search: 1  round 2: without chunk 1 of 2: 3 of 8 units, DSR 0.40 on 9 rows, fail",
        "mini: judging: 0/5",
        "the judge is slow",
        "search: broken off after 0.0 s",
        "failed:",
        "Traceback",
        "ZeroDivisionError",
    )
    places = [log.index(said) for said in order]
    assert places == sorted(places)
    assert "nobody wants to know" not in log
    assert "judging: 1/5" not in log
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", log)
    assert len(heard) == 6
    assert capfd.readouterr().out == ""
