"""Kills a sweep at random moments, damages its files, and gives the same command again, until it is done.

    python -m tests.cluster.faults --kills 50      # as root also with a full and a read-only disk

A sweep that is done is compared with one that nobody disturbed, and the next begins. No query may be repeated or lost,
no half-written file believed, and the tables must be the same.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.cluster.slurm import compare, done, finish
from tests.commands import DAPA, started
from tests.settings import quick

WORDS = quick("-m", "pair=mini-llama-small-base,mini-llama-small-style", "search.seed=1,2")
RUNS = 4
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser("faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    moments, tally, sweeps = random.Random(asked.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        finish(whole, *WORDS)
        while sum(tally.values()) < asked.kills:
            folder = Path(scratch) / str(sweeps)
            folder.mkdir()
            while done(folder) < RUNS and sum(tally.values()) < asked.kills:
                tally.update(filter(None, (disturb(folder, moments), damage(folder, moments))))
            finish(folder, *WORDS)
            compare(folder, whole)
            sweeps += 1
            said = ", ".join(f"{name} {count}" for name, count in sorted(tally.items()))
            print(f"{sweeps} sweeps, {sum(tally.values())} faults ({said}): same tables, no query repeated", flush=True)
    return 0


def disturb(folder: Path, moments: random.Random) -> str:
    """Start the sweep, and kill one of its processes, or all of them, at a random moment."""
    whom = moments.choice((child, child, parent, server, group))
    how = moments.choice(SIGNALS)
    with started(*WORDS, f"record.dir={folder}", cwd=folder) as command:
        wait_for_work(command, folder, moments)
        if command.poll() is not None:
            return ""
        with suppress(ProcessLookupError, IndexError, StopIteration):
            whom(command.pid, how)
        if whom is child or whom is server:  # the sweep goes on with the others
            wait_for_work(command, folder, moments)
        else:
            with suppress(subprocess.TimeoutExpired):
                command.wait(30)
    return f"{whom.__name__} {how.name}"


def wait_for_work(command: subprocess.Popen[bytes], folder: Path, moments: random.Random) -> None:
    """Wait until a sweep has written some lines more, or has ended."""
    enough = written(folder) + moments.randint(0, 40)
    while command.poll() is None and written(folder) <= enough:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.1))


def child(sweep: int, how: signal.Signals) -> None:
    os.kill(next(run for one in children(sweep) for run in children(one)), how)


def server(sweep: int, how: signal.Signals) -> None:
    os.kill(children(sweep)[0], how)


def parent(sweep: int, how: signal.Signals) -> None:
    os.kill(sweep, how)


def group(sweep: int, how: signal.Signals) -> None:
    os.killpg(sweep, how)


def damage(folder: Path, moments: random.Random) -> str:
    """Damage a file as a kill or a bad disk may, and check that no command believes it. Returns what was done."""
    faults: list[Callable[[Path, random.Random], str]] = [torn_line, half_record, left_part, full_disk, read_only_disk]
    return moments.choice(faults)(folder, moments)


def torn_line(folder: Path, moments: random.Random) -> str:
    files = sorted(file for file in folder.rglob("*.jsonl") if not (run_of(file) / "record.json").exists())
    if not files:
        return ""
    with moments.choice(files).open("ab") as file:
        file.write(b'{"index": 99, "units": ["layers.')
    return "torn last line"


def half_record(folder: Path, moments: random.Random) -> str:
    records = sorted(folder.glob("single/*/record.json"))
    if not records:
        return ""
    record = moments.choice(records)
    record.write_bytes(record.read_bytes()[: moments.randint(0, 2000)])
    said = subprocess.run(
        [*DAPA, "status", str(record.parent)], capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 1, said.stdout
    assert "damaged" in said.stdout, said.stdout
    record.unlink()
    return "half a record"


def left_part(folder: Path, moments: random.Random) -> str:
    runs = [run for run in folder.glob("single/*") if (run / "config.yaml").exists()]
    if not runs:
        return ""
    (moments.choice(runs) / ".record.json.4711-0123abcd").write_text('{"schema_version": 2')
    return "half a temporary file"


def full_disk(folder: Path, moments: random.Random) -> str:
    """Give the command on a disk on which its results soon have no room."""
    return on_small_disk(folder, f"size={moments.randint(300, 900)}k", "full disk")


def read_only_disk(folder: Path, moments: random.Random) -> str:
    return on_small_disk(folder, "ro", "read-only disk")


def on_small_disk(folder: Path, option: str, name: str) -> str:
    """Give the command with the results on a disk of its own, and keep what it has written there."""
    disk = folder.parent / "disk"
    disk.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False).returncode:
        return ""
    try:
        subprocess.run(["cp", "-a", f"{folder}/.", str(disk)], check=True)
        subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=False)
        said = subprocess.run(
            [*DAPA, *WORDS, f"record.dir={disk}"], capture_output=True, text=True, timeout=600, check=False
        )
        assert "Traceback" not in said.stderr, said.stderr
        assert said.returncode in (0, 1, 2), said.stderr
        subprocess.run(["mount", "-o", "remount,rw,size=1g", str(disk)], check=True)
        subprocess.run(["cp", "-a", f"{disk}/.", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return name


def run_of(file: Path) -> Path:
    return next(parent for parent in file.parents if parent.parent.name == "single")


def written(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.jsonl"))


def children(process: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


if __name__ == "__main__":
    raise SystemExit(main())
