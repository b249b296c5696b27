"""Disturbs sweeps on a real SLURM of one node, and compares their tables with an undisturbed sweep's.

    python -m tests.cluster.slurm            # about ten minutes; needs root, slurm-wlm and munge

Each case starts a sweep of its own through `hydra/launcher=slurm_cpu`, disturbs it, and gives the same command again
until it is done. No query may be repeated, and the tables must be the same.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.cluster.node import node_off, slurm, why_not
from tests.cluster.outcome import PATIENCE, compare, done, finish
from tests.commands import DAPA, started, wait_until
from tests.settings import quick

SWEEP = ("-m", "pair=mini-llama-small-base,mini-mistral-base")
RUNS = 2
LONGER = ("dataset.search.rows=[0,96]", "search.threshold=1.0", "runtime.engine=plain", "runtime.batch_size=4")
"""So that a search takes long enough to be disturbed."""
HERE = (
    "hydra/launcher=slurm_cpu",
    *("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null", "hydra.launcher.timeout_min=30"),
)
WORDS = quick(*SWEEP, *LONGER)

Case = Callable[[Path], None]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # SLURM's daemons end with this program
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    cases: list[Case] = [
        undisturbed,
        requeued,
        out_of_time,
        cancelled,
        node_drained,
        node_down,
        command_killed,
        left_alone,
    ]
    wanted = sys.argv[1:]
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        os.chmod(scratch, 0o755)  # munged is another user
        stack.enter_context(slurm(Path(scratch) / "slurm"))
        whole = Path(scratch) / "whole"
        finish(whole, *WORDS)
        failed = 0
        for case in cases:
            if wanted and case.__name__ not in wanted:
                continue
            folder, begun = Path(scratch) / case.__name__, time.monotonic()
            folder.mkdir()
            try:
                case(folder)
                finish(folder, *WORDS, *HERE)
                compare(folder, whole)
                said = "same tables, no query repeated"
            except (AssertionError, subprocess.SubprocessError) as error:
                failed += 1
                said = f"FAILED: {error}"
            print(f"{case.__name__}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)
    return 1 if failed else 0


def undisturbed(folder: Path) -> None:
    finish(folder, *WORDS, *HERE)


def requeued(folder: Path) -> None:
    """An administrator requeues a job in the middle of a search."""
    with sweep(folder):
        job = busy_job(folder)
        ask("scontrol", "requeue", job)
        hurry(job)
        wait_until(lambda: done(folder) == RUNS, PATIENCE)


def out_of_time(folder: Path) -> None:
    """A job's time is over in the middle of a search: submitit is warned, and queues it again."""
    with sweep(folder, "hydra.launcher.signal_delay_s=120"):
        job = busy_job(folder)
        (run,) = (file.parent for file in folder.glob("single/*/job.json") if f'"{job}"' in file.read_text())
        (claim,) = run.glob(".claim-*")
        os.kill(json.loads(claim.read_text())["pid"], signal.SIGSTOP)  # so that it is not done before
        minutes, _ = map(int, ask("squeue", "-h", "-j", job, "-o", "%M").split(":"))
        ask("scontrol", "update", f"jobid={job}", f"timelimit={minutes + 2}")
        wait_until(lambda: "Restarts=1" in ask("scontrol", "show", "job", job), PATIENCE)
        hurry(job)
        wait_until(lambda: done(folder) == RUNS, PATIENCE)


def cancelled(folder: Path) -> None:
    """The sweep does not wait for cancelled jobs, and says which runs are not done."""
    with sweep(folder) as command:
        busy_job(folder)
        ask("scancel", "--me")
        assert command.wait(PATIENCE) == 1, "the sweep did not end"
    said = (folder / "said.txt").read_text()
    assert "ended before the run was done (cancelled" in said, said


def node_drained(folder: Path) -> None:
    """Jobs on a drained node go on; those that wait begin when it is resumed."""
    with sweep(folder, "hydra.launcher.array_parallelism=1"):
        busy_job(folder)
        ask("scontrol", "update", f"nodename={platform.node()}", "state=drain", "reason=test")
        wait_until(lambda: done(folder) >= 1, PATIENCE)
        time.sleep(10)
        assert done(folder) == 1
        ask("scontrol", "update", f"nodename={platform.node()}", "state=resume")
        wait_until(lambda: done(folder) == RUNS, PATIENCE)


def node_down(folder: Path) -> None:
    """A node fails with all that runs on it. SLURM queues its jobs again, and they begin when it is back."""
    with sweep(folder):
        busy_job(folder)
        ids = ask("squeue", "-h", "-r", "-o", "%i").split()
        with node_off():
            ask("scontrol", "update", f"nodename={platform.node()}", "state=down", "reason=test")
        with suppress(subprocess.CalledProcessError):  # it is back already
            ask("scontrol", "update", f"nodename={platform.node()}", "state=resume")
        for job in ids:
            hurry(job)
        wait_until(lambda: done(folder) == RUNS, PATIENCE)


def command_killed(folder: Path) -> None:
    """The command that waits is killed. The same command submits nothing again, and waits for the same jobs."""
    with sweep(folder) as command:
        busy_job(folder)
        jobs = submitted(folder)
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        finish(folder, *WORDS, *HERE)
    assert submitted(folder) == jobs, "runs were submitted again"


def left_alone(folder: Path) -> None:
    """Submit and leave: `dapa status --watch` follows."""
    finish(folder, *WORDS, *HERE, "runtime.wait=false")
    assert done(folder) < RUNS, "the command waited"
    (inside,) = folder.glob("single")
    status = subprocess.run([*DAPA, "status", "--watch", str(inside)], capture_output=True, text=True, timeout=PATIENCE)
    assert f"{RUNS} runs: {RUNS} done" in status.stdout, status.stdout


def sweep(folder: Path, *words: str):  # type: ignore[no-untyped-def]
    return started(*WORDS, *HERE, *words, f"record.dir={folder}", cwd=folder)


def busy_job(folder: Path) -> str:
    """Wait until a search has made some queries. Returns the job that makes them."""
    wait_until(lambda: any(lines(file) >= 4 for file in folder.glob("single/*/search.jsonl")), PATIENCE)
    file = next(file for file in folder.glob("single/*/search.jsonl") if lines(file) >= 4)
    assert not (file.parent / "record.json").exists(), "the run was too short"
    return str(json.loads((file.parent / "job.json").read_text())["id"])


def hurry(job: str) -> None:
    """Let a requeued job begin now. SLURM would wait for two minutes."""

    def pending() -> bool:
        return (
            "JobState=PENDING"
            in subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
        )

    wait_until(pending, 60)
    ask("scontrol", "update", f"jobid={job}", "starttime=now")


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


def submitted(folder: Path) -> list[str]:
    return sorted(file.read_text() for file in folder.glob("single/*/job.json"))


if __name__ == "__main__":
    raise SystemExit(main())
