"""A copy of finished runs for Weights & Biases. The run folder stays the store: a mirror can be made again any time.

One W&B run a record: its summary is the record, its history the queries of the search. Only numbers,
names and the config are sent; completions are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel

from dapa_exp.base.digests import cache_root
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.record.schema import ROUNDING, Agreement, Comparison, Record
from dapa_exp.record.status import RunStatus, status

Mode = Literal["offline", "online"]
Scalar = float | int | bool | str

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

    Raises DapaError where the run is not finished, or W&B fails: the run itself is then as it was.
    """
    (run,) = status(run_folder)
    if run.record is None:
        raise DapaError(f"{run_folder}: only finished runs are mirrored, and this one is {run.state} ({run.reason})")
    digest = hashlib.sha256((run_folder / "record.json").read_bytes()).hexdigest()
    sent = {"record": digest, "mode": mode, "project": project, "entity": entity}
    marker = run_folder / "wandb" / "mirrored.json"
    if _read_marker(marker) == sent:
        return False
    try:
        _send(run_folder, run.record, mode, project, entity)
    except (Exception, SystemExit) as error:  # its own errors, pydantic's, OSError, an exit: none may end the run
        raise DapaError(f"{run_folder}: Weights & Biases ({mode}) failed: {type(error).__name__}: {error}") from error
    write_atomically(marker, json.dumps(sent, indent=2) + "\n")
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


def _send(folder: Path, record: Record, mode: Mode, project: str, entity: str | None) -> None:
    run_id = record.identity[:16]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    history = list(_history(folder / "search.jsonl", record.search.threshold_dsr))
    _forget(folder / "wandb", run_id)
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
                id=run_id,  # a run sent twice replaces itself
                project=project,
                entity=entity,
                group=record.experiment,
                name=folder.resolve().name,
                dir=folder,
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


def _history(path: Path, bar: float) -> Iterator[dict[str, Scalar]]:
    """The queries of the search, a step each. A run without a search has none; a torn last line is no query."""
    lines = path.read_bytes().splitlines() if path.is_file() else []  # of text, it would split at U+2028, too
    for line in lines:
        try:
            query = json.loads(line)
        except ValueError:
            continue
        step: dict[str, Scalar] = {f"search/query/{name}": query[name] for name in QUERY_FIELDS if name in query}
        passed = query.get("at_most", query["score"]) >= bar - ROUNDING  # older lines: all rows were asked
        yield step | {"search/query/units": len(query["units"]), "search/query/passed": passed}


def _forget(folder: Path, run_id: str) -> None:
    """Remove earlier local copies: two offline runs with one id would replace each other on sync, in any order."""
    for stale in (*folder.glob(f"offline-run-*-{run_id}"), *folder.glob(f"run-*-{run_id}")):
        shutil.rmtree(stale)


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
