"""A run's folder: every result is written as soon as it is computed, and a resumed run reads it from there."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter

from dapa_exp.base.claim import Claim, HeldError, LostClaimError, hold, this_process
from dapa_exp.base.errors import DapaError, StoppedError
from dapa_exp.base.files import leftovers, remove, write_atomically
from dapa_exp.base.memory import peak_memory_bytes
from dapa_exp.config.schema import Config
from dapa_exp.record.identity import differing_keys, essence, identity
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import LocaliseLayout, RunLayout, StageCostLine, SweepLayout, read_json
from dapa_exp.record.log import note, run_log
from dapa_exp.record.schema import Record, Stage
from dapa_exp.record.shared import Format, Key, find_or_compute, json_format, turn

PATIENCE = 0.5
"""How many seconds to wait for another process that holds a run's folder, before raising an error."""
IN_OTHER_HANDS = "another process is working on this run"
FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


@dataclass
class RunFolder:
    """The open folder of one run. No other process has it open."""

    path: Path
    config: Config
    claim: Claim | None = None
    stage: str = "start"
    tokens: int = 0
    """Tokens that this process has generated so far."""
    waited: float = 0.0
    """Seconds that this process has waited so far for results of other runs."""
    reused: dict[str, str] = field(default_factory=dict)
    """Results that this process has taken from other runs so far, by file, and the run that computed them."""

    @property
    def files(self) -> RunLayout:
        return RunLayout(self.path)

    @property
    def sweep(self) -> SweepLayout:
        """The folder that this one lies in."""
        return SweepLayout(self.path.parent)

    def journal(self, path: Path, line: type[BaseModel]) -> Journal:
        """Open a file of JSON lines for appending. It holds the lines that an interrupted run has written."""
        return Journal(path, line, self.claim.check if self.claim else None)

    def load_or_compute(
        self,
        path: Path,
        schema: TypeAdapter[T],
        compute: Callable[[], T],
        key: Key | None = None,
        is_whole: Callable[[T], bool] = lambda value: True,
    ) -> T:
        """The value in a JSON file of the folder. If there is no such file, compute the value and write it.

        With a key, it is computed once for all runs of the sweep: see `share`. Raises DapaError, which names the file,
        if its content does not match `schema`.
        """
        if not path.is_file():
            value = self.share(path, key, json_format(schema), compute, is_whole)
            write_atomically(path, schema.dump_json(value, indent=1))
            return value
        try:
            return read_json(path, schema)
        except DapaError as error:
            raise DapaError(f"{error}; move it away, and the same command computes it again") from error

    def share(
        self,
        path: Path,
        key: Key | None,
        form: Format[T],
        compute: Callable[[], T],
        is_whole: Callable[[T], bool] = lambda value: True,
    ) -> T:
        """The value for `path` that another run of the sweep has computed under the same key; else compute it.

        Without a key it is computed. A value that is not whole is not shared. Nothing is written to `path`.
        """
        if key is None:
            return compute()
        is_reference = path.parent == self.files.references
        folder = self.sweep.shared_references if is_reference else self.sweep.shared
        found = find_or_compute(folder, key, form, self.path.name, compute, is_whole)
        self.waited += found.waited
        if found.run != self.path.name:
            name = str(path.relative_to(self.path))
            note(f"{name}: from {found.run}")
            self.reused[name] = found.run
        return found.value

    def refuse_changed(self, digests: Mapping[str, str]) -> None:
        """Raise DapaError, which names them, if checkpoints or prompts are not those that the run began with.

        A repository of the hub may get new weights under the same name, and a run's identity knows only the name.
        """
        first = self.load_or_compute(self.files.inputs, TypeAdapter(dict[str, str]), lambda: dict(digests))
        if changed := [name for name in digests if first.get(name) != digests[name]]:
            raise DapaError(
                f"{self.path}: the run began with another {' and another '.join(changed)} (SHA-256 in"
                f" {self.files.inputs.name}). A revision in the config pins what changes on the hub. Move this folder"
                " away, and the same command begins anew"
            )

    @contextmanager
    def alone(self, key: Key | None) -> Iterator[None]:
        """Run a block while no other run of the sweep runs a block with this key: it finds the results of the others.

        Without a key nobody is waited for.
        """
        if key is None:
            yield
            return
        with turn(self.sweep.shared, key) as waited:
            self.waited += waited
            yield

    @contextmanager
    def run_stage(self, stage: str) -> Iterator[None]:
        """Run a block as a stage of the run, and write down its cost, also if the block raises."""
        self.stage, started, tokens = stage, time.monotonic() - self.waited, self.tokens
        reused = set(self.reused)
        note(f"{stage}: begins")
        ended = "broken off after"
        try:
            yield
            ended = "took"
        finally:
            spent = Stage(
                seconds=time.monotonic() - self.waited - started,
                tokens=self.tokens - tokens,
                peak_memory_bytes=peak_memory_bytes(),
                reused={name: run for name, run in self.reused.items() if name not in reused},
            )
            peak = f"{(spent.peak_memory_bytes or 0) / 1e9:.2f} GB of memory at most"
            note(f"{stage}: {ended} {spent.seconds:.1f} s, {spent.tokens} tokens, {peak}")
            self._costs().append({"stage": stage, **spent.model_dump()})

    def cost(self) -> dict[str, Stage]:
        """What each stage has cost so far: the sum over all processes that worked on it."""
        cost: dict[str, Stage] = {}
        for line in self._costs().lines:
            stage, spent = line.pop("stage"), Stage(**line)
            cost[stage] = cost[stage].plus(spent) if stage in cost else spent
        return cost

    def finish(self, record: Record) -> Record:
        """Write `record.json` and return the record. A run is done when this file exists."""
        if self.claim:
            self.claim.check()
        again = self.files.reproducible(self.config, record)
        write_atomically(self.files.reproduce, again.model_dump_json(indent=1))
        write_atomically(self.files.record, record.model_dump_json(indent=1))
        note("the record is written: the run is done")
        remove(self.files.references)  # up to a GB, and only a resumed run needs them
        with suppress(DapaError):  # a damaged list of runs is not this run's matter
            if self.sweep.is_done():
                remove(self.sweep.shared_references)  # the same for all runs
        return record

    def _costs(self) -> Journal:
        return self.journal(self.files.cost, StageCostLine)


@contextmanager
def open_run(path: Path, config: Config) -> Iterator[RunFolder]:
    """Open or create the folder of a run. If the block raises, `error.json` is written there.

    Raises DapaError if the folder cannot be written, another process has it open, or it holds a run of another
    identity; then the message names the differing keys. In these cases nothing is written to the folder.
    """
    run = RunFolder(path, config)
    with _claimed(run), _write_error_on_failure(run), run_log(run.files.log):
        note(f"opened by {this_process()}; {config.pair.name}, identity {identity(config)}")
        for left in litter(run.files):
            remove(left)
        remove(run.files.error)
        yield run


def read_record(path: Path, config: Config) -> Record | None:
    """The validated record of a run; None if the run is not finished.

    Raises DapaError if the record is damaged or belongs to another run.
    """
    files = RunLayout(path)
    if not files.record.is_file():
        return None
    _refuse_another(path, config)
    try:
        record = files.read_record()
    except DapaError as error:
        again = "move it away, and the same command makes it from the rest of the folder"
        raise DapaError(f"{error}; {again}") from error
    if record.identity != identity(config):
        raise DapaError(f"{files.record}: of another run (identity {record.identity[:8]})")
    return record


def is_searched(path: Path, config: Config) -> bool:
    """Whether the search of a run is finished. Raises DapaError if the folder holds another run."""
    _refuse_another(path, config)
    return RunLayout(path).found.is_file()


@contextmanager
def claim_folder(path: Path, patience: float = PATIENCE) -> Iterator[Claim]:
    """Hold a run's folder while the block runs. Raises DapaError if another process holds it, and names that process.

    Waits `patience` seconds for that process to release it. With a patience of 0, it is not even found out whether
    another machine's process still lives.
    """
    with ExitStack() as held:
        try:
            claim = held.enter_context(hold(RunLayout(path).claim, patience))
        except HeldError as error:
            raise DapaError(f"{path}: {IN_OTHER_HANDS}: {error}") from error
        except OSError as error:
            raise _readable(path, error) from error
        yield claim


def tidy(path: Path) -> None:
    """Remove temporary files of killed processes from a run's folder.

    Does nothing if a process has the folder open, or the folder cannot be written.
    """
    files = RunLayout(path)
    if litter(files):
        with suppress(DapaError, OSError), claim_folder(path, 0):
            for left in litter(files):
                remove(left)


def leave_error(path: Path, kind: str, message: str, stage: str = "unknown") -> None:
    """Write `error.json`: why and in which stage a run failed."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"kind": kind, "message": message, "stage": stage, "time": when}
    write_atomically(RunLayout(path).error, json.dumps(body, indent=1))


def litter(files: RunLayout) -> list[Path]:
    """Temporary files of killed processes, and in the folder of a finished run the reference distributions."""
    parts = LocaliseLayout(files.folder).part("any")
    folders = (files.folder, files.metric("any", "any").parent, files.references, files.mirror, parts.parent)
    found = [left for folder in folders for left in leftovers(folder)]
    return [*found, files.references] if files.record.is_file() and files.references.is_dir() else found


@contextmanager
def _claimed(run: RunFolder) -> Iterator[None]:
    """Claim the folder, refuse it if it holds another run, and write this run's identity and config."""
    files, config = run.files, run.config
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _readable(run.path, error) from error
    with claim_folder(run.path) as run.claim:
        _refuse_another(run.path, config)
        try:
            if not files.identity.is_file():
                own = {"identity": identity(config), "essence": essence(config)}
                write_atomically(files.identity, json.dumps(own, indent=1))
            write_atomically(files.config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        except OSError as error:
            raise _readable(run.path, error) from error
        yield


@contextmanager
def _write_error_on_failure(run: RunFolder) -> Iterator[None]:
    """Write `error.json` if the block raises. An OSError becomes a DapaError that a user can read."""
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError, LostClaimError, StoppedError):
        raise  # the user stopped the run, or closed the pipe that reads its output, or another process goes on with it
    except OSError as error:
        readable = _readable(run.path, error)
        _leave_error(run, readable)
        raise readable from error
    except BaseException as error:
        _leave_error(run, error)
        raise


def _refuse_another(path: Path, config: Config) -> None:
    file = RunLayout(path).identity
    if not file.is_file():
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
        same, keys = theirs["identity"] == identity(config), differing_keys(theirs["essence"], essence(config))
    except (ValueError, KeyError, TypeError) as error:
        raise DapaError(f"{file}: damaged, so it is not known which run's results these are ({error})") from error
    if not same:
        raise DapaError(f"{path}: holds another run; these keys differ: {', '.join(keys)}")


def _leave_error(run: RunFolder, error: BaseException) -> None:
    with suppress(OSError):  # a full disk cannot store its own error; the caller still raises it
        leave_error(run.path, type(error).__name__, str(error), run.stage)


def _readable(path: Path, error: OSError) -> DapaError:
    where = error.filename or path
    if error.errno in FULL:
        return DapaError(f"{where}: no space left on the disk; results so far are kept: free some space and run again")
    return DapaError(f"{where}: {error.strerror or error}")
