"""Runs the `dapa` command as a user would, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DAPA = (sys.executable, "-m", "dapa_exp")


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one error of a command that failed; AssertionError where there is none, several, or a traceback."""
        assert self.code not in (0, None), self.out
        assert "Traceback" not in self.err + self.out, self.err
        _, *complaints = ("\n" + self.err).split("\nerror: ")
        assert len(complaints) == 1, self.err
        return complaints[0].strip()


def dapa(*words: str, cwd: Path, timeout: float = 120.0, **environment: str) -> Said:
    """Run a command to its end."""
    done = subprocess.run(
        [*DAPA, *words], cwd=cwd, timeout=timeout, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return Said(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, all of it killed with the block; it prints to `said.txt`."""
    with (cwd / "said.txt").open("ab") as said:
        process = subprocess.Popen(
            [*DAPA, *words], cwd=cwd, stdout=said, stderr=said, start_new_session=True, preexec_fn=_heed_interrupts
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _heed_interrupts() -> None:
    """A shell's background job, as a test suite may be, hands down that Ctrl-C is to be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
