"""A copy of finished runs for Weights & Biases. The run folder stays the store: a mirror can be made again any time.

One W&B run a record: its summary is the record, its history the queries of the search. Only numbers,
names and the config are sent; completions are not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import remove, temporary, write_atomically
from dapa_exp.record.folder import locked
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.schema import ROUNDING, Agreement, Comparison, Record
from dapa_exp.record.status import RunStatus, run_status, status

Mode = Literal["offline", "online"]
Scalar = float | int | bool | str

RUN_ID = 16
"""How much of its identity a run is known by at W&B."""
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
"""What is sent of a query, besides how many units it transplanted and whether it passed; the rest of its line stays."""


class Mirrored(NamedTuple):
    """How many runs were sent, how many had been sent before, and how many are not finished."""

    mirrored: int
    skipped: int
    unfinished: int


def mirror(run_folder: Path, *, mode: Mode, project: str, entity: str | None) -> bool:
    """Send one finished run, unless this record was already sent in this way; returns whether it was sent.

    Raises DapaError where the run is not finished, or W&B fails: the run itself is then as it was, and so is what was
    sent before; why it failed is written down beside that.
    """
    files, run = RunLayout(run_folder), run_status(run_folder)
    if run.record is None:
        raise DapaError(f"{run_folder}: only finished runs are mirrored, and this one is {run.state} ({run.reason})")
    digest = hashlib.sha256(files.record.read_bytes()).hexdigest()
    sent = {"record": digest, "mode": mode, "project": project, "entity": entity}
    run_id = run.record.identity[:RUN_ID]
    if _read_marker(files.mirrored) == sent and (mode == "online" or _copies(files.mirror, run_id)):
        return False
    try:
        with _staged(files) as staging:
            _send(files, staging, run.record, mode, project, entity)
            _put_in_place(files, staging, run_id)
        write_atomically(files.mirrored, json.dumps(sent, indent=2) + "\n")
        remove(files.unsent)
    except DapaError:
        raise
    except (Exception, SystemExit) as error:  # its own errors, pydantic's, OSError, an exit: none may end the run
        because = " ".join(str(error).split())
        said = f"{run_folder}: Weights & Biases ({mode}) failed: {type(error).__name__}: {because}"
        with suppress(OSError):
            write_atomically(files.unsent, json.dumps({"message": said}) + "\n")
        raise DapaError(said) from error
    return True


def mirror_all(folder: Path, *, mode: Mode, project: str, entity: str | None) -> Mirrored:
    """Send every finished run of a sweep folder (or the one of a run folder) that was not sent yet."""
    runs = status(folder)
    finished: list[RunStatus] = [run for run in runs if run.state == "done"]
    sent = [mirror(run.path, mode=mode, project=project, entity=entity) for run in finished]
    return Mirrored(mirrored=sum(sent), skipped=len(sent) - sum(sent), unfinished=len(runs) - len(finished))


def flatten(part: BaseModel, prefix: str = "") -> dict[str, Scalar]:
    """A record as one level: "search/ledger/queries". A list counts as its length, unless its items have names.

    A comparison is named by whom it is against, an agreement by its two judges. Nulls are left out.
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


def _send(files: RunLayout, staging: Path, record: Record, mode: Mode, project: str, entity: str | None) -> None:
    """Send a run; what W&B writes on this disk, which offline is all of it, goes to `staging`."""
    config = files.config_as_written()
    history = list(_history(files, record.search.threshold_dsr))
    with _own_folders():
        import wandb  # here, since it takes most of a second and a network client with it

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
            with wandb.init(
                id=record.identity[:RUN_ID],  # a run sent twice replaces itself
                project=project,
                entity=entity,
                group=record.experiment,
                name=files.folder.resolve().name,
                dir=staging,
                mode=mode,
                config=config,
                settings=quiet,
            ) as run:
                run.define_metric("search/query/*", summary="none")
                for step, query in enumerate(history):
                    run.log(query, step=step)
                run.summary.update(flatten(record))
        finally:
            wandb.teardown()  # a finished run may still be in the service's memory; its end puts it on the disk


def _history(files: RunLayout, bar: float) -> Iterator[dict[str, Scalar]]:
    """The queries of the search, a step each. A run without a search has none."""
    for query in files.read_queries():
        step: dict[str, Scalar] = {f"search/query/{name}": query[name] for name in QUERY_FIELDS if name in query}
        reached: float = query["at_most" if "at_most" in query else "score"]  # older lines: all rows were asked
        yield step | {"search/query/units": len(query["units"]), "search/query/passed": reached >= bar - ROUNDING}


@contextmanager
def _staged(files: RunLayout) -> Iterator[Path]:
    """A temporary folder for what W&B writes: an attempt that fails leaves what was sent before as it was."""
    with temporary(files.mirror / "staging") as folder:
        folder.mkdir(parents=True)
        yield folder


def _put_in_place(files: RunLayout, staging: Path, run_id: str) -> None:
    """Put a new local copy where the earlier ones were.

    Of two offline runs with one id, the later to be synced would replace the other. Until the new one is in its
    place, nothing says any more that the run was mirrored: who is killed here sends again.
    """
    with locked(files.folder, PATIENCE):
        remove(files.mirrored)
        for earlier in _copies(files.mirror, run_id):
            remove(earlier)
        for new in _copies(RunLayout(staging).mirror, run_id):
            new.rename(files.mirror / new.name)


def _copies(folder: Path, run_id: str) -> list[Path]:
    """What W&B has written of a run: offline all of it, online its log."""
    return [*folder.glob(f"offline-run-*-{run_id}"), *folder.glob(f"run-*-{run_id}")]


@contextmanager
def _own_folders() -> Iterator[None]:
    """Keep what W&B stages and caches with our other caches, unless the user has said where."""
    names = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")
    unset = [name for name in names if name not in os.environ]
    folder = cache_root() / "wandb"
    os.environ.update({name: str(folder) for name in unset})
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


def _read_marker(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
