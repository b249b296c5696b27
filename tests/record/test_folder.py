"""A run's folder: nothing half-written is trusted, nothing whole is lost, and one process has it at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.record.folder import JsonLines, RunFolder, open_run, read_record
from tests.analysis.factory import record
from tests.settings import quick_config

CONFIG = quick_config("pair=mini-llama-small-base")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.json"
    write_atomically(file, "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "two \ud800")
    assert file.read_text() == "one"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("torn", [b'{"index": 2, "sc', b'{"index": 2}', b"\x00\x00\x00", b'{"x": "\xc3'])
def test_a_torn_last_line_is_cut_off_and_written_anew(tmp_path: Path, torn: bytes) -> None:
    JsonLines(tmp_path / "a.jsonl").append({"index": 0, "text": "line\r\nbreak\u2028"}, {"index": 1})
    whole = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(whole + torn)
    opened = JsonLines(tmp_path / "a.jsonl")
    assert [line["index"] for line in opened.lines] == [0, 1]
    assert (tmp_path / "a.jsonl").read_bytes() == whole
    opened.append({"index": 2})
    assert JsonLines(tmp_path / "a.jsonl").lines == opened.lines


def test_what_was_computed_is_remembered(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, CONFIG)
    asked: list[int] = []

    def compute() -> dict[str, float]:
        asked.append(1)
        return {"value": 0.5}

    assert [run.remembered("metrics/a.json", compute) for _ in range(2)] == [{"value": 0.5}] * 2
    assert asked == [1]


def test_what_stages_cost_is_counted_over_all_processes(tmp_path: Path) -> None:
    def search(tokens: int, stop: bool) -> RunFolder:
        with open_run(tmp_path / "run", CONFIG) as run, run.measured("search"):
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
    with pytest.raises(RuntimeError), open_run(tmp_path, CONFIG) as run, run.measured("search"):
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
        pytest.raises(DapaError, match="no space left on the disk; what was computed is kept"),
        open_run(tmp_path, CONFIG) as run,
    ):
        run.lines("full.jsonl").append({"index": 0})
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
