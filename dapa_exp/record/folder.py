"""A run's folder: everything computed is on disk the moment it exists, and is found there again on resume."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from pydantic import ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.base.memory import peak_memory_bytes
from dapa_exp.config.schema import Config
from dapa_exp.record.identity import differing_keys, essence, identity
from dapa_exp.record.schema import Record, Stage, damage

LOCK_SECONDS = 0.5
"""How long another process may hold a run's folder before this one gives way."""


class JsonLines:
    """A file of one JSON object a line, appended to and flushed at once.

    A last line torn by a kill or a full disk is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        if path.is_file():
            self._read()
        path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, *entries: dict[str, Any]) -> None:
        """Add entries, in one write, and have them on the disk on return."""
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self.lines += entries

    def _read(self) -> None:
        whole = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self.lines.append(entry)
            whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)


@dataclass
class RunFolder:
    """The open folder of one run; nobody else has it open."""

    path: Path
    config: Config
    stage: str = "start"
    tokens: int = 0
    """Generated in this process so far."""

    def lines(self, name: str) -> JsonLines:
        """A file of JSON lines in the folder, with what an interrupted run left there."""
        return JsonLines(self.path / name)

    def remembered(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The content of a JSON file in the folder, computed and written first where it is not there."""
        path = self.path / name
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        value = compute()
        write_atomically(path, json.dumps(value, indent=1))
        return value

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Name the stage that is running, and write down what it cost, also where it is broken off."""
        self.stage, started, tokens = stage, time.monotonic(), self.tokens
        try:
            yield
        finally:
            seconds, tokens = time.monotonic() - started, self.tokens - tokens
            spent = Stage(seconds=seconds, tokens=tokens, peak_memory_bytes=peak_memory_bytes())
            self.lines("cost.jsonl").append({"stage": stage, **spent.model_dump()})

    def cost(self) -> dict[str, Stage]:
        """What each stage has cost so far, in all processes together."""
        cost: dict[str, Stage] = {}
        for line in self.lines("cost.jsonl").lines:
            stage, spent = line.pop("stage"), Stage(**line)
            cost[stage] = cost[stage].plus(spent) if stage in cost else spent
        return cost

    def finish(self, record: Record) -> Record:
        """Write `record.json`. Its presence means that the run is done."""
        write_atomically(self.path / "record.json", record.model_dump_json(indent=1))
        shutil.rmtree(self.path / "references", ignore_errors=True)  # up to a GB, and only of use to a resumed run
        return record


@contextmanager
def open_run(path: Path, config: Config) -> Iterator[RunFolder]:
    """Open, or reopen, the folder of a run; leaves `error.json` there where the block raises.

    Raises DapaError where the folder cannot be written, another process has it open, or it holds a
    run of another identity (naming the keys that differ). These leave nothing in the folder.
    """
    lock = _claim(path, config)
    run = RunFolder(path, config)
    try:
        (path / "error.json").unlink(missing_ok=True)
        yield run
    except (KeyboardInterrupt, BrokenPipeError):
        raise  # stopped by the user, or left unread: not failed
    except OSError as error:
        readable = _readable(path, error)
        _leave_error(run, readable)
        raise readable from error
    except BaseException as error:
        _leave_error(run, error)
        raise
    finally:
        lock.release()


def read_record(path: Path, config: Config) -> Record | None:
    """The record of a finished run, validated; None where it is not finished.

    Raises DapaError on a damaged one and on that of another run.
    """
    file = path / "record.json"
    if not file.is_file():
        return None
    _refuse_another(path, config)
    try:
        record = Record.model_validate_json(file.read_bytes())
    except ValidationError as error:
        again = "move it away, and the same command makes it from the rest of the folder"
        raise DapaError(f"{file}: not a valid record: {damage(error)}; {again}") from error
    if record.identity != identity(config):
        raise DapaError(f"{file}: of another run (identity {record.identity[:8]})")
    return record


def _claim(path: Path, config: Config) -> FileLock:
    """Lock the folder and write down whose it is. The caller releases the lock."""
    lock = FileLock(path / ".lock", timeout=LOCK_SECONDS)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _refuse_another(path, config)
        if not (path / "identity.json").is_file():
            claim = {"identity": identity(config), "essence": essence(config)}
            write_atomically(path / "identity.json", json.dumps(claim, indent=1))
        write_atomically(path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    except Timeout as error:
        raise DapaError(f"{path}: another process is working on this run") from error
    except OSError as error:
        lock.release()
        raise _readable(path, error) from error
    except BaseException:
        lock.release()
        raise
    return lock


def _refuse_another(path: Path, config: Config) -> None:
    claim = path / "identity.json"
    if not claim.is_file():
        return
    try:
        theirs = json.loads(claim.read_text(encoding="utf-8"))
        same, keys = theirs["identity"] == identity(config), differing_keys(theirs["essence"], essence(config))
    except (ValueError, KeyError, TypeError) as error:
        raise DapaError(f"{claim}: damaged, so whose results these are is not known ({error})") from error
    if not same:
        raise DapaError(f"{path}: holds another run; these keys differ: {', '.join(keys)}")


def _leave_error(run: RunFolder, error: BaseException) -> None:
    body = {
        "kind": type(error).__name__,
        "message": str(error),
        "stage": run.stage,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # a full disk cannot hold its error either; the caller still raises it
        write_atomically(run.path / "error.json", json.dumps(body, indent=1))


def _readable(path: Path, error: OSError) -> DapaError:
    where = error.filename or path
    if error.errno == errno.ENOSPC:
        return DapaError(f"{where}: no space left on the disk; what was computed is kept: free some and run again")
    return DapaError(f"{where}: {error.strerror or error}")
