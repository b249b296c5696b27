"""Results shared between processes: computed once, whoever is killed, and never read from a damaged file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from dapa_exp.record import shared
from dapa_exp.record.shared import Found, find_or_compute, json_format, turn
from tests.commands import wait_until

KEY = {"what": "windows", "model": "a"}
NUMBERS = json_format(TypeAdapter(list[float]))
COMPUTE = """
import sys, time
from pathlib import Path
from tests.record.test_shared import look_up
def compute():
    Path(sys.argv[1], sys.argv[2] + ".computes").touch()
    time.sleep(float(sys.argv[3]))
    return [0.1 + 0.2]
print(look_up(Path(sys.argv[1]) / "shared", compute, run=sys.argv[2]))
"""


def look_up(folder: Path, compute: object, run: str = "now", **other: object) -> Found[list[float]]:
    assert callable(compute)
    return find_or_compute(folder, {**KEY, **other}, NUMBERS, run, compute, is_whole=lambda numbers: numbers != [])


def start(folder: Path, run: str, seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", COMPUTE, str(folder), run, str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def never() -> list[float]:
    raise AssertionError("computed again")


def entry(folder: Path) -> Path:
    (file,) = (file for file in folder.iterdir() if not file.name.startswith("."))
    return file


@pytest.mark.slow
def test_of_two_processes_one_computes_and_the_other_waits(tmp_path: Path) -> None:
    both = [start(tmp_path, run, 1.0) for run in ("a", "b")]
    said = [process.communicate(timeout=60)[0] for process in both]
    (computed,) = tmp_path.glob("*.computes")
    assert all(f"value=[0.30000000000000004], run='{computed.stem}'" in line for line in said)


@pytest.mark.slow
def test_when_the_one_that_computes_is_killed_the_other_computes(tmp_path: Path) -> None:
    first = start(tmp_path, "first", 600.0)
    wait_until(lambda: (tmp_path / "first.computes").exists())
    second = start(tmp_path, "second", 0.0)
    time.sleep(0.3)
    assert not (tmp_path / "second.computes").exists() or second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert "run='second'" in second.communicate(timeout=60)[0]
    first.communicate()
    assert look_up(tmp_path / "shared", never).run == "second"


def compute_until(folder: Path, steps: int, how: str) -> None:
    """Compute an entry in this process, and be stopped at a step that touches the folder. Exits with 0 at the end."""
    left = [steps]

    def stop(event: str, given: tuple[object, ...]) -> None:
        if event.startswith(("open", "os.")) and given and str(folder) in str(given[0]):
            left[0] -= 1
            if left[0] == 0 and how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if left[0] == 0:
                raise KeyboardInterrupt  # what SIGTERM does to a run

    sys.addaudithook(stop)
    try:
        look_up(folder, lambda: [0.5], run="stopped")
    except KeyboardInterrupt:
        os._exit(3)
    os._exit(0)


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_whatever_step_a_writer_is_stopped_at_its_entry_is_whole_or_none(tmp_path: Path, how: str) -> None:
    fork = get_context("fork")
    ends = list[int | None]()
    while not ends or ends[-1] != 0:
        folder = tmp_path / str(len(ends))
        writer = fork.Process(target=compute_until, args=(folder, len(ends) + 1, how))
        writer.start()
        writer.join()
        ends.append(writer.exitcode)
        assert look_up(folder, lambda: [0.5]).value == [0.5]
        assert look_up(folder, never).value == [0.5]
        assert len([file for file in folder.iterdir() if not file.name.startswith(".")]) == 1
    assert len(ends) > 8, "the steps that touch the folder"


def test_a_run_that_waits_says_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SAID_AFTER", 0.1)
    said: list[str] = []
    monkeypatch.setattr(shared, "note", said.append)
    with turn(tmp_path, KEY):
        waiting = threading.Thread(target=look_up, args=(tmp_path, lambda: [1.0], "waits"))
        waiting.start()
        wait_until(lambda: said)
    waiting.join()
    assert said[0].startswith("windows: waits for another run of the sweep, which works on the same: process ")


def test_what_a_killed_writer_left_is_no_entry(tmp_path: Path) -> None:
    look_up(tmp_path, lambda: [1.0])
    whole = entry(tmp_path)
    part = whole.with_name(f".{whole.name}.{os.getpid()}-0123abcd")
    part.write_bytes(whole.read_bytes()[:-1])
    whole.unlink()
    assert look_up(tmp_path, lambda: [2.0]).value == [2.0]
    assert not part.exists()


@pytest.mark.parametrize("damage", ["digit", "cut", "emptied", "of another key", "no result"])
def test_a_damaged_entry_is_computed_anew(tmp_path: Path, damage: str) -> None:
    look_up(tmp_path, lambda: [1.5], run="before")
    file = entry(tmp_path)
    head, content = file.read_bytes().split(b"\n")
    body = json.loads(head)
    file.write_bytes(
        {
            "digit": head + b"\n" + content.replace(b"1.5", b"2.5"),
            "cut": file.read_bytes()[:-1],
            "emptied": b"",
            "of another key": json.dumps({**body, "key": {**KEY, "model": "b"}}, sort_keys=True).encode()
            + b"\n"
            + content,
            "no result": b"[1.5]",
        }[damage]
    )
    assert look_up(tmp_path, lambda: [3.0]).value == [3.0]
    assert look_up(tmp_path, never) == Found([3.0], "now")


def test_another_key_is_another_result_and_what_is_not_whole_is_not_kept(tmp_path: Path) -> None:
    assert look_up(tmp_path, lambda: [1.0], run="a").value == [1.0]
    assert look_up(tmp_path, lambda: [2.0], threads=2).value == [2.0]
    assert look_up(tmp_path, lambda: [], threads=3).value == []
    assert look_up(tmp_path, lambda: [4.0], threads=3).value == [4.0]
    assert look_up(tmp_path, never) == Found([1.0], "a")
