"""Kills a sweep at random moments, damages its files, and gives the same command again, until it is done.

    python -m tests.cluster.faults --kills 100     # as root also with disks that are full or read-only
    python -m tests.cluster.faults --kills 50 --launcher joblib    # or basic, submitit_local, slurm_cpu, ray

A sweep that is done is compared with one that nobody disturbed, and the next begins. No query may be repeated or lost,
no half-written file believed, and records and tables must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dapa_exp.record.status import run_status
from tests.cluster.node import slurm, why_not
from tests.cluster.outcome import PATIENCE, compare, done, finish
from tests.commands import started
from tests.settings import quick

PAIRS = "pair=mini-llama-small-base,mini-llama-small-style"
SHORT = ("dataset.search.rows=[0,6]", "dataset.report.rows=[96,102]", "dataset.harmless.rows=[0,4]")
LAUNCHERS: dict[str, tuple[int, list[str]]] = {
    "isolated": (16, []),
    "basic": (8, []),
    "joblib": (8, ["hydra.launcher.n_jobs=2"]),
    "ray": (16, ["hydra.launcher.init.num_cpus=2"]),
    "submitit_local": (4, []),
    "slurm_cpu": (4, ["hydra.launcher.cpus_per_task=4", "hydra.launcher.mem_gb=null", "hydra.launcher.timeout_min=30"]),
}
"""How many runs a sweep has, fewer where each is a process that imports anew; and what its command is told besides."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
PROCESSES = {
    "forkserver": "fork server",
    "submitit": "job",
    "ray::": "Ray worker",
    "raylet": "raylet",
    "dapa_exp\0run": "command",
}
"""What a process that carries out runs is called, by a word of its command line."""


@dataclass
class Campaign:
    """Sweeps with one launcher that are disturbed until there were enough kills."""

    launcher: str
    moments: random.Random
    scratch: Path
    runs: int = 0
    """Of each sweep; as many as LAUNCHERS says, if 0."""
    disks: bool = False
    """Whether disks that are full or read-only are tried too. Needs root."""
    tally: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    sweeps: int = 0

    def __post_init__(self) -> None:
        runs, settings = LAUNCHERS[self.launcher]
        self.runs = self.runs or runs
        self.sweep = quick("-m", PAIRS, *SHORT, f"search.seed=range(0,{self.runs // 2})")
        self.words = (*self.sweep, f"hydra/launcher={self.launcher}", *settings)

    def carry_out(self, kills: int) -> None:
        whole = self.scratch / "whole"
        finish(whole, *self.sweep)
        while self.kills < kills:
            folder = self.scratch / str(self.sweeps)
            folder.mkdir()
            while done(folder) < 0.8 * self.runs and self.kills < kills:
                self.disturb(folder, kills)
                self.damage(folder)
                print(f"{self.launcher}: {self.kills} kills, {done(folder)} of {self.runs} runs done", flush=True)
            finish(folder, *self.words, attempts=3)  # a run that was killed just now may be a failure of the first
            compare(folder, whole)
            self.sweeps += 1
            print(f"{self.launcher}: {self.kills} kills, {self.sweeps} sweeps the same; {self}", flush=True)

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(self.tally.items()))

    def disturb(self, folder: Path, kills: int) -> None:
        """Start the sweep, kill some of its runs at random moments, and then a process above them, or all."""
        with started(*self.words, f"record.dir={folder}", cwd=folder) as command:
            if self.moments.random() < 0.1:  # also before there is any run
                time.sleep(self.moments.uniform(0, 10))
                self.kill_group(command)
            for _ in range(self.moments.randint(0, self.runs)):
                if self.wait_for_work(command, folder) and self.kills < kills:
                    self.kill(command.pid, folder, runs_only=True)
            if self.wait_for_work(command, folder):
                if self.moments.random() < 0.3:
                    self.kill_group(command)
                else:
                    self.kill(command.pid, folder, runs_only=False)
                with suppress(subprocess.TimeoutExpired):
                    command.wait(self.moments.choice((0, 30)))  # not waited for: all of it is killed now

    def wait_for_work(self, command: subprocess.Popen[bytes], folder: Path) -> bool:
        """Wait for a moment in which a sweep loads or waits, or until it has written some lines more, or has ended.

        Returns whether it goes on.
        """
        if self.moments.random() < 0.4 and claimed(folder):
            time.sleep(self.moments.uniform(0, 2))
            return command.poll() is None
        enough = written(folder) + self.moments.randint(0, 30)
        while command.poll() is None and written(folder) <= enough:
            time.sleep(0.02)
        return command.poll() is None

    def kill_group(self, command: subprocess.Popen[bytes]) -> None:
        os.killpg(command.pid, how := self.moments.choice(SIGNALS))
        self.count("group", how)
        command.wait(60)

    def kill(self, command: int, folder: Path, runs_only: bool) -> None:
        """Kill a process that carries out a run, or one that has started it."""
        owners = []
        for claim in claimed(folder):
            with suppress(FileNotFoundError, json.JSONDecodeError):  # the run has ended, or a disk lost what it says
                owners.append(json.loads(claim.read_bytes())["pid"])
        chains = [chain for owner in owners if (chain := dict(ancestors(owner)))]
        if chains:
            chain = self.moments.choice(chains) | {command: "command"}
            whom = next(iter(chain)) if runs_only else self.moments.choice(list(chain))
            with suppress(ProcessLookupError):
                os.kill(whom, how := self.moments.choice(SIGNALS))
                self.count(chain[whom], how)

    def count(self, whom: str, how: signal.Signals) -> None:
        self.kills += 1
        self.tally[f"{whom} {how.name}"] += 1

    def damage(self, folder: Path) -> None:
        """Damage a file as a kill or a bad disk may, and check that no command believes it."""
        faults = [self.torn_line, self.half_record, self.left_part, self.bad_share]
        if self.disks and self.moments.random() < 0.3:
            faults = [self.full_disk, self.read_only_disk, self.failing_disk]
        if name := self.moments.choice(faults)(folder):
            self.tally[name] += 1

    def torn_line(self, folder: Path) -> str:
        found = (file for file in sorted(folder.rglob("*.jsonl")) if "report" not in file.parts)
        files = [file for file in found if is_free(run_of(file)) and not (run_of(file) / "record.json").exists()]
        if not files:
            return ""
        with self.moments.choice(files).open("ab") as file:
            file.write(b'{"index": 99, "units": ["layers.')
        return "torn last line"

    def half_record(self, folder: Path) -> str:
        records = sorted(folder.glob("single/*/record.json"))
        if not records:
            return ""
        record = self.moments.choice(records)
        record.write_bytes(record.read_bytes()[: self.moments.randint(0, 2000)])
        found = run_status(record.parent)
        assert found.state == "failed", found
        assert "damaged" in (found.reason or ""), found
        record.unlink()
        return "half a record"

    def left_part(self, folder: Path) -> str:
        runs = [run for run in folder.glob("single/*") if (run / "config.yaml").exists()]
        if not runs:
            return ""
        (self.moments.choice(runs) / ".record.json.4711-0123abcd").write_text('{"schema_version": 2')
        return "half a temporary file"

    def bad_share(self, folder: Path) -> str:
        """Damage what runs share of a teacher or a student: cut it off, or change a byte."""
        files = [file for file in sorted(folder.glob("single/shared/*")) if not file.name.startswith(".")]
        if not files:
            return ""
        file = self.moments.choice(files)
        content, place = bytearray(file.read_bytes()), self.moments.randrange(file.stat().st_size)
        if self.moments.random() < 0.5:
            del content[place:]
        else:
            content[place] ^= 1
        file.write_bytes(content)
        return "damaged shared file"

    def full_disk(self, folder: Path) -> str:
        """Give the command on a disk on which its results soon have no room."""
        with self.disk(folder, "-t", "tmpfs", "tmpfs") as disk:
            room = (shutil.disk_usage(disk).used >> 10) + self.moments.randint(50, 400)
            shell("mount", "-o", f"remount,size={room}k", disk)
            self.on(disk)
            shell("mount", "-o", "remount,size=1g", disk)
        return "full disk"

    def read_only_disk(self, folder: Path) -> str:
        """Give the command on a disk that is read-only."""
        with self.disk(folder, "-t", "tmpfs", "tmpfs") as disk:
            shell("mount", "-o", "remount,ro", disk)
            self.on(disk)
        return "read-only disk"

    def failing_disk(self, folder: Path) -> str:
        """Give the command on a disk that the kernel makes read-only in the middle of it, because of an error."""
        image = self.scratch / "image"
        with image.open("wb") as file:
            file.truncate(256 << 20)
        shell("mkfs.ext4", "-q", image)
        asked: dict[Path, int] = {}
        with self.disk(folder, "-o", "loop,errors=remount-ro", image) as disk:
            failed = False
            device = Path(shell("findmnt", "-no", "SOURCE", disk).strip()).name

            def fail(command: subprocess.Popen[bytes]) -> None:
                nonlocal failed
                if failed := self.wait_for_work(command, disk):
                    asked.update({file: lines(file) for file in disk.glob("single/*/search.jsonl")})
                    Path("/sys/fs/ext4", device, "trigger_fs_error").write_text("a test")

            self.on(disk, fail)
            shell("umount", disk)  # what was not on the disk yet is lost
            shell("mount", "-o", "loop", image, disk)
            here = {file: lines(file) if file.exists() else 0 for file in asked}
            lost = [file for file in asked if here[file] < asked[file] - 1]  # the query in flight may be
            assert not lost, f"{lost}: queries were lost"
        return "disk turned read-only" if failed else ""

    @contextmanager
    def disk(self, folder: Path, *options: str | Path) -> Iterator[Path]:
        """A disk with a copy of the results. What is there after the block is kept."""
        disk = self.scratch / "disk"
        disk.mkdir(exist_ok=True)
        shell("mount", *options, disk)
        try:
            shell("cp", "-a", f"{folder}/.", disk)
            shell("sync", "-f", disk)
            yield disk
            shell("cp", "-a", f"{disk}/.", folder)
        finally:
            shell("umount", disk)

    def on(self, disk: Path, disturb: Callable[[subprocess.Popen[bytes]], None] = lambda _: None) -> None:
        """Give the command with its results on a disk. It may fail, with a clear error."""
        place = self.scratch / "elsewhere"
        place.mkdir(exist_ok=True)
        with started(*self.words, f"record.dir={disk}", cwd=place) as command:
            disturb(command)
            code = command.wait(PATIENCE)
        said = (place / "said.txt").read_text()
        assert code in (0, 1, 2), said
        assert "Traceback" not in said, said


def main() -> int:
    parser = argparse.ArgumentParser("faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="isolated")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        scratch.chmod(0o755)  # SLURM's munged is another user
        if asked.launcher == "slurm_cpu":
            if reason := why_not():
                print(f"skipped: {reason}")
                return 0
            stack.enter_context(slurm(scratch / "slurm"))
        disks = asked.launcher == "isolated" and os.geteuid() == 0
        Campaign(asked.launcher, random.Random(asked.seed), scratch, disks=disks).carry_out(asked.kills)
    return 0


def ancestors(process: int) -> Iterator[tuple[int, str]]:
    """A process that carries out a run, and those above it that carry out runs, with what they are called."""
    name: str | None = "run"
    with suppress(OSError):
        while name:
            parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            yield process, name
            line = Path(f"/proc/{parent}/cmdline").read_text()
            process, name = parent, next((PROCESSES[word] for word in PROCESSES if word in line), None)


def is_free(run: Path) -> bool:
    return not list(run.glob(".claim-*"))


def run_of(file: Path) -> Path:
    return next(parent for parent in file.parents if parent.parent.name == "single")


def shell(*command: str | Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def written(folder: Path) -> int:
    return sum(map(lines, folder.rglob("*.jsonl")))


def claimed(folder: Path) -> list[Path]:
    return list(folder.glob("single/*/.claim-*"))


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


if __name__ == "__main__":
    raise SystemExit(main())
