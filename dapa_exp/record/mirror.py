"""Copies finished runs to Weights & Biases. The run folder remains the original: a mirror can be repeated any time.

Each record becomes one W&B run. The run's summary is the record, its history has one step for each query of the
search. Numbers, names and the config are sent; answers are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError, one_line
from dapa_exp.base.files import read_object, remove, temporary, write_atomically
from dapa_exp.config.schema import RecordSettings
from dapa_exp.record.evaluation import Agreement, Comparison
from dapa_exp.record.folder import claim_folder
from dapa_exp.record.journal import Line
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.measure import ROUNDING
from dapa_exp.record.schema import Record
from dapa_exp.record.status import RunStatus, run_status, status

Mode = Literal["offline", "online"]
Scalar = float | int | bool | str
Begin = Callable[..., AbstractContextManager[Any]]
"""Starts a W&B run in the mode and project that were asked for. Its arguments go to `wandb.init`."""

RUN_ID = 16
"""How many hex digits of a run's identity are its run id at W&B."""
PATIENCE = 10.0
"""Seconds to wait for another process that is writing to the run's folder."""
QUERY_FIELDS = (
    "label",
    "score",
    "at_most",
    "refused",
    "retracted",
    "harmless",
    "harmful",
    "degenerate",
    "failed",
    "prompts",
    "tokens",
    "seconds",
)
"""The fields of a query that are sent, beside its number of units and whether it passed."""


class Destination(NamedTuple):
    """Where runs are sent, in the words of `wandb.init`. Offline, they stay files for `wandb sync`."""

    mode: Mode
    project: str
    entity: str | None


def destination(settings: RecordSettings) -> Destination | None:
    """Where a config has its runs sent; None if nowhere."""
    if settings.wandb == "off":
        return None
    return Destination(settings.wandb, settings.wandb_project, settings.wandb_entity)


class Mirrored(NamedTuple):
    """How many runs were sent, how many had been sent before, how many are not finished, and why others failed."""

    mirrored: int
    skipped: int
    unfinished: int
    failed: tuple[str, ...] = ()


def mirror(run_folder: Path, to: Destination) -> bool:
    """Send one finished run. Returns False if the same record was sent to the same place before.

    Raises DapaError if the run is not finished, or W&B fails. A failure changes neither the run nor an earlier mirror,
    and its reason is written to `wandb/failed.json`.
    """
    files, run = RunLayout(run_folder), run_status(run_folder)
    if run.record is None:
        raise DapaError(f"{run_folder}: only finished runs are mirrored, and this one is {run.state} ({run.reason})")
    record, content = run.record, files.record.read_bytes()
    return _deliver(files, record.identity[:RUN_ID], content, to, partial(_send, files, record))


def mirror_sweep(folder: Path, to: Destination) -> bool:
    """Send one more W&B run that sums a sweep up: a table with a row for each finished run. Raises as `mirror` does."""
    records = [run.record for run in status(folder) if run.record]
    if not records:
        return False
    rows = [_sweep_row(record) for record in records]
    name = folder.resolve()
    run_id = f"sweep-{hashlib.sha256(f'{platform.node()} {name}'.encode()).hexdigest()[:RUN_ID]}"

    def send(begin: Begin) -> None:
        with begin(id=run_id, group=records[0].experiment, job_type="sweep", name=name.name) as run:
            run.summary.update({"runs": len(rows), "queries": sum(record.search.ledger.queries for record in records)})
            run.summary["sweep"] = _table(rows)

    return _deliver(RunLayout(folder), run_id, json.dumps(rows).encode(), to, send)


def _deliver(files: RunLayout, run_id: str, content: bytes, to: Destination, send: Callable[[Begin], None]) -> bool:
    """Send a W&B run, unless the same content was sent to the same place before. Returns whether it was sent."""
    if _is_sent(files, run_id, sent := _marker(content, to)):
        return False
    try:
        with _staged(files) as staging:
            send(partial(_begin, dir=staging, **to._asdict()))
            _put_in_place(files, staging, run_id)
        write_atomically(files.mirror_marker, json.dumps(sent, indent=2) + "\n")
        remove(files.mirror_failure)
    except DapaError:
        raise
    except (Exception, SystemExit) as error:  # W&B may raise anything, or exit; the run must go on
        said = f"{files.folder}: Weights & Biases ({to.mode}) failed: {type(error).__name__}: {one_line(error)}"
        with suppress(OSError):
            write_atomically(files.mirror_failure, json.dumps({"message": said}) + "\n")
        raise DapaError(said) from error
    return True


def is_mirrored(run_folder: Path, to: Destination) -> bool:
    """Whether the record of a finished run was sent to this place. Raises DapaError if the record is damaged."""
    files = RunLayout(run_folder)
    run_id = files.read_record().identity[:RUN_ID]
    return _is_sent(files, run_id, _marker(files.record.read_bytes(), to))


def _marker(content: bytes, to: Destination) -> dict[str, str | None]:
    """What is written down about a W&B run that was sent."""
    return {"record": hashlib.sha256(content).hexdigest(), **to._asdict()}


def _is_sent(files: RunLayout, run_id: str, sent: dict[str, str | None]) -> bool:
    return read_object(files.mirror_marker) == sent and (
        sent["mode"] == "online" or bool(_copies(files.mirror, run_id))
    )


def mirror_all(folder: Path, to: Destination) -> Mirrored:
    """Send every finished run of a sweep folder, or the run of a run folder, if it was not sent before.

    A failure does not keep the others from being sent. Of several runs a summary is sent, too, if no run failed.
    """
    runs = status(folder)
    finished: list[RunStatus] = [run for run in runs if run.state == "done"]
    sent: list[bool] = []
    failed: list[str] = []
    for run in finished:
        try:
            sent.append(mirror(run.path, to))
        except DapaError as error:
            failed.append(str(error))
    if len(finished) > 1 and not failed:
        try:
            mirror_sweep(folder, to)
        except DapaError as error:
            failed.append(str(error))
    return Mirrored(sum(sent), len(sent) - sum(sent), len(runs) - len(finished), tuple(failed))


def flatten(part: BaseModel, prefix: str = "") -> dict[str, Scalar]:
    """A record as one flat dict with keys such as "search/ledger/queries". Nulls are left out.

    A list becomes its length. Two lists are kept: comparisons, by the model compared with, and agreements, by the two
    judges.
    """
    flat: dict[str, Scalar] = {}
    for name in type(part).model_fields:
        flat.update(_flatten_value(getattr(part, name), f"{prefix}{name}"))
    return flat


def _flatten_value(value: Any, name: str) -> dict[str, Scalar]:
    if value is None:
        return {}
    if isinstance(value, BaseModel):
        return flatten(value, f"{name}/")
    if isinstance(value, dict):
        return {key: scalar for part in value for key, scalar in _flatten_value(value[part], f"{name}/{part}").items()}
    if isinstance(value, list) and value and isinstance(value[0], Comparison):
        return {key: scalar for item in value for key, scalar in _flatten_value(item, f"{name}/{item.against}").items()}
    if isinstance(value, list) and value and isinstance(value[0], Agreement):
        named = {"+".join(item.judges): {"agreement": item.agreement, "kappa": item.kappa} for item in value}
        return _flatten_value(named, name)
    return {name: len(value) if isinstance(value, list) else value}


def _send(files: RunLayout, record: Record, begin: Begin) -> None:
    config, asked = files.config_as_written(), files.read_queries()
    history = list(_history(asked, record.search.threshold_dsr))
    with begin(
        id=record.identity[:RUN_ID],  # with the same id, a second copy replaces the first
        group=record.experiment,
        job_type=f"{record.search.granularity} {record.search.algorithm}",
        name=files.folder.resolve().name,
        config=config,
    ) as run:
        run.define_metric("search/query/*", summary="none")
        for step, query in enumerate(history):
            run.log(query, step=step)
        run.summary.update(flatten(record))
        run.summary["search/queries"] = _table(_query_rows(asked, history))
        run.summary["search/units"] = _table(_unit_rows(record, asked))


@contextmanager
def _begin(**named: Any) -> Iterator[Any]:
    """A W&B run while the block runs. Its local files go to `dir`; in offline mode they are the whole run."""
    with _own_folders():
        import wandb  # imported here: it takes most of a second, and loads a network client

        quiet = wandb.Settings(
            console="off",
            silent=True,
            symlink=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        try:
            with wandb.init(settings=quiet, **named) as run:
                yield run
        finally:
            wandb.teardown()  # W&B's service may still hold the run in memory; this writes it to the disk


def _table(rows: Sequence[dict[str, Scalar | None]]) -> Any:
    import wandb

    return wandb.Table([*rows[0]] if rows else [], [list(row.values()) for row in rows])


def _sweep_row(record: Record) -> dict[str, Scalar | None]:
    search, measured = record.search, record.evaluate
    return {
        "pair": record.pair.name,
        "family": record.pair.family,
        "granularity": search.granularity,
        "search": search.algorithm,
        "status": search.status,
        "units_found": len(search.units_found),
        "units_total": search.units_total,
        "percent": record.transplant.percent,
        "queries": search.ledger.queries,
        "dsr_student": measured.student.dsr.value,
        "dsr_hybrid": measured.hybrid.dsr.value,
        "dsr_teacher": measured.teacher.dsr.value,
        "identity": record.identity,
    }


def _history(asked: Sequence[Line], bar: float) -> Iterator[dict[str, Scalar]]:
    """The queries of the search, one W&B step each. A run without a search has none."""
    for query in asked:
        step: dict[str, Scalar] = {f"search/query/{name}": query[name] for name in QUERY_FIELDS if name in query}
        reached: float = query["at_most" if "at_most" in query else "score"]  # older lines lack at_most
        yield step | {"search/query/units": len(query["units"]), "search/query/passed": reached >= bar - ROUNDING}


def _query_rows(asked: Sequence[Line], history: Sequence[dict[str, Scalar]]) -> list[dict[str, Scalar | None]]:
    """The table of queries: what the history says, and the names of the units."""
    names = [f"search/query/{name}" for name in (*QUERY_FIELDS, "passed")]
    return [
        {name.rpartition("/")[2]: step.get(name) for name in names} | {"units": ", ".join(query["units"])}
        for query, step in zip(asked, history, strict=True)
    ]


def _unit_rows(record: Record, asked: Sequence[Line]) -> list[dict[str, Scalar | None]]:
    """The table of units: of each whether it was found, its prior's score, and how many queries transplanted it."""
    search, queries = record.search, Counter(unit for query in asked for unit in query["units"])
    scores = search.prior.scores if search.prior else {}
    return [
        {"unit": unit, "found": unit in search.units_found, "prior": scores.get(unit), "queries": queries[unit]}
        for unit in dict.fromkeys((*scores, *queries, *search.units_found))
    ]


@contextmanager
def _staged(files: RunLayout) -> Iterator[Path]:
    """A temporary folder for W&B's files, so that a failed attempt does not touch an earlier mirror."""
    with temporary(files.mirror / "staging") as folder:
        folder.mkdir(parents=True)
        yield folder


def _put_in_place(files: RunLayout, staging: Path, run_id: str) -> None:
    """Replace earlier local copies by the new one.

    Only one copy may remain: `wandb sync` of two offline runs with one id would let an old one replace a new one.
    The marker file is removed first, so a process that is killed here sends the run again next time.
    """
    with claim_folder(files.folder, PATIENCE):
        remove(files.mirror_marker)
        for earlier in _copies(files.mirror, run_id):
            remove(earlier)
        for new in _copies(RunLayout(staging).mirror, run_id):
            new.rename(files.mirror / new.name)


def _copies(folder: Path, run_id: str) -> list[Path]:
    """W&B's local folders of a run: the whole run if offline, its log if online."""
    return [*folder.glob(f"offline-run-*-{run_id}"), *folder.glob(f"run-*-{run_id}")]


@contextmanager
def _own_folders() -> Iterator[None]:
    """Let W&B put its caches below our cache folder, unless the user's environment variables say otherwise.

    Its temporary files go into a folder of this process.
    """
    names = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")
    unset = [name for name in names if name not in os.environ]
    folder = cache_root() / "wandb"
    os.environ.update({name: str(folder) for name in unset})
    before, tempfile.tempdir = tempfile.tempdir, _temporary_folder()
    try:
        yield
    finally:
        tempfile.tempdir = before
        for name in unset:
            del os.environ[name]


@cache
def _temporary_folder() -> str:
    """A folder that is removed when this process ends.

    W&B removes its own by `atexit`, which the child processes of multiprocessing do not run.
    """
    folder = tempfile.TemporaryDirectory(prefix="dapa-wandb-")
    Finalize(folder, folder.cleanup, exitpriority=0)
    return folder.name
