"""Claims: one process at a time works in a folder, on whatever machine. No lock is needed, so a folder may be on NFS.

A process that wants a folder writes a claim there, a file with a name of its own, and then looks for other claims. If
there is none, the folder is its own. Of two processes that come at the same time, at least one sees the other's claim
and withdraws. A process that is killed at any moment leaves one claim behind, which others recognise as a dead
process's and remove.

The owner sets its claim's time anew every BEAT seconds. Others see whether that time changes, and never compare it
with their own clock: the clocks of two machines may differ.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from dapa_exp.base.errors import DapaError

BEAT = 5.0
"""Seconds between two signs of life."""
STALE = 50.0
"""A claim without a sign of life for so many seconds is taken over."""
_GONE = (errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True)
class Owner:
    """The process that holds a claim."""

    host: str
    pid: int
    started: str
    """When the process began, as the kernel counts it: another process may get the same number later."""
    machine: str
    """Identifies the machine, its last start, and the container."""
    since: str
    job: str | None = None
    """Its job on a SLURM cluster."""

    def __str__(self) -> str:
        if not self.pid:
            return "a process that has not said who it is"
        return f"process {self.pid} on {self.host}{f', job {self.job}' if self.job else ''}, since {self.since}"


class HeldError(DapaError):
    """Another process holds the claim."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(str(owner or _UNKNOWN))


class LostClaimError(DapaError):
    """This process held a claim, and another one has taken it over."""


class Claim:
    """A claim that this process holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._released = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def check(self) -> None:
        """Give a sign of life. Raises LostClaimError if the claim was taken over."""
        try:
            os.utime(self._path)
        except OSError as error:
            if error.errno in _GONE and not self._released.is_set():
                raise LostClaimError(
                    f"{self._path.parent}: this process gave no sign of life for {STALE:.0f} seconds, and another one"
                    " has taken over (or the folder was removed)"
                ) from error

    def release(self) -> None:
        self._released.set()
        with suppress(OSError):
            self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with suppress(LostClaimError):  # whoever writes next is told
                self.check()


@contextmanager
def hold(name: Path, patience: float) -> Iterator[Claim]:
    """Hold the claim `name` while the block runs: a file `name-…` beside those of other processes.

    Raises HeldError if a living process still holds it after `patience` seconds. A claim of another machine's process
    is watched until it shows a sign of life, for STALE seconds at most; not if `patience` is 0.
    """
    claim = Claim(_win(name, patience))
    try:
        yield claim
    finally:
        claim.release()


def owners(names: Sequence[Path]) -> list[Owner | None]:
    """The living owner of each claim; None if there is none. Writes nothing.

    Claims of other machines whose time is far from this machine's are watched for one BEAT.
    """
    watch = _Watch()
    found = {name: [path for path in claims(name) if watch.lives(path) is not False] for name in names}
    doubtful = [path for paths in found.values() for path in paths if not (watch.lives(path) or watch.is_fresh(path))]
    if doubtful:
        time.sleep(BEAT + 1)
    dead = {path for path in doubtful if not watch.lives(path)}
    living = ((path for path in found[name] if path not in dead) for name in names)
    return [next((_read(path) or _UNKNOWN for path in paths), None) for paths in living]


class _Watch:
    """What one process has seen of other processes' claims."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[float, int]] = {}
        """By claim: when it was first seen, by this process's own clock, and its time then."""

    def lives(self, path: Path) -> bool | None:
        """Whether a claim's owner lives. None if that is not known yet."""
        try:
            with path.open("rb") as file:  # opened, so that NFS asks the server
                changed = os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return False
        first, before = self._seen.setdefault(path, (time.monotonic(), changed))
        owner = _read(path)
        if owner and owner.machine == _machine():
            return _lives_here(owner)
        if changed != before:
            return True
        return False if time.monotonic() - first > STALE else None

    def seconds(self, path: Path) -> float:
        """How long ago a claim was first seen."""
        return time.monotonic() - self._seen[path][0]

    def is_fresh(self, path: Path) -> bool:
        """Whether a claim's time is near this machine's."""
        return abs(time.time() - self._seen[path][1] / 1e9) < STALE


def _win(name: Path, patience: float) -> Path:
    """Write a claim when no other process has one."""
    watch = _Watch()
    while True:
        other = _other(name, watch)
        if other is None:
            own = _announce(name)
            try:
                other = _other(name, watch, own)
            except BaseException:
                own.unlink()
                raise
            if other is None:
                return own
            own.unlink()
        known = watch.lives(other)
        if (known or not patience) and known is not False and watch.seconds(other) >= patience:
            raise HeldError(_read(other))
        time.sleep(random.uniform(0.01, 0.1))  # not all at once again


def _other(name: Path, watch: _Watch, own: Path | None = None) -> Path | None:
    """Another process's claim, if there is one. Removes those of dead processes."""
    for path in claims(name):
        if path != own:
            if watch.lives(path) is not False:
                return path
            with suppress(FileNotFoundError):
                path.unlink()
    return None


def _announce(name: Path) -> Path:
    own = _path(name, secrets.token_hex(4))
    part = own.with_name(f".{own.name}.{os.getpid()}-{secrets.token_hex(4)}")
    for tries_left in reversed(range(10)):
        try:
            part.write_text(json.dumps(asdict(this_process())), encoding="utf-8")
            part.rename(own)
            break
        except FileNotFoundError:  # whoever holds the claim may remove temporary files, this one too
            if not tries_left or not name.parent.is_dir():
                raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return own


def this_process() -> Owner:
    """This process as the owner of a claim from now on."""
    pid = os.getpid()
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(platform.node(), pid, process_start(pid) or "", _machine(), since, os.environ.get("SLURM_JOB_ID"))


_UNKNOWN = Owner("", 0, "", "", "")


def claims(name: Path) -> list[Path]:
    """All claims to a name, those of dead processes too."""
    try:
        names = os.listdir(name.parent)
    except OSError:
        return []
    return [name.parent / found for found in names if found.startswith(_path(name, "").name)]


def _path(name: Path, own: str) -> Path:
    return name.with_name(f"{name.name}-{own}")


def _read(path: Path) -> Owner | None:
    """Who wrote a claim; None if it is gone, or damaged."""
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"


def _lives_here(owner: Owner) -> bool | None:
    """Whether a process of this machine lives. None if its user hides it from us."""
    if (started := process_start(owner.pid)) is not None:
        return started == owner.started
    try:
        os.kill(owner.pid, 0)
    except PermissionError:
        return None
    except ProcessLookupError:
        pass
    return False


def process_start(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
