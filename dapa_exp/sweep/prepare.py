"""Prepares a sweep: makes its folders, fetches its prompt sets, builds its zoo models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dapa_exp.base.claim import HeldError, hold
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import leftovers, remove, write_atomically
from dapa_exp.base.progress import Report, display
from dapa_exp.config.models import Model
from dapa_exp.evaluate.offline import offline_sets
from dapa_exp.fetch.store import fetch
from dapa_exp.models.source import source_of
from dapa_exp.preflight.totals import models_of
from dapa_exp.record.folder import tidy
from dapa_exp.record.layout import SweepLayout
from dapa_exp.sweep.job import Job

PATIENCE = 60.0
"""Seconds to wait for another sweep that is being started in the same folder."""


def each_once(planned: Sequence[Job]) -> list[Job]:
    """The planned runs without those that are planned twice. Raises DapaError if two different runs share a folder."""
    asked: dict[Path, Job] = {}
    for job in planned:
        if asked.setdefault(job.folder, job).identity != job.identity:
            raise DapaError(f"{job.folder}: two different runs would share this folder")
    return list(asked.values())


def make_room(planned: Sequence[Job]) -> None:
    """Create the sweep folders, and add the planned runs to the list in each.

    Raises DapaError if two runs would share a folder, or results cannot be written there.
    """
    asked = {job.folder: job for job in each_once(planned)}
    for job in asked.values():
        if job.folder.exists() and not (job.folder.is_dir() and os.access(job.folder, os.W_OK)):
            raise DapaError(f"{job.folder}: results cannot be written there")
    for folder in {folder.parent for folder in asked}:
        runs = [job.listed() for job in asked.values() if job.folder.parent == folder]
        sweep = SweepLayout(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hold(sweep.claim, PATIENCE):  # several sweeps of one folder may start at the same time
                for left in leftovers(folder):
                    remove(left)
                names = {run["folder"] for run in runs}
                others = [run for run in sweep.read_listing() if run["folder"] not in names]
                write_atomically(sweep.listing, json.dumps({"runs": others + runs}, indent=1))
        except HeldError as error:
            raise DapaError(f"{folder}: another sweep is being started there: {error}") from error
        except (OSError, KeyError) as error:
            raise DapaError(f"{folder}: results cannot be written there: {error}") from error
    for folder in asked:
        tidy(folder)


def prepare(planned: Sequence[Job]) -> None:
    """Fetch the prompt sets and build the zoo models that the runs need and the cache lacks."""
    sets = [rows.fetched_name for job in planned for rows in job.config.dataset.sets().values()]
    sets += [name for job in planned for name in offline_sets(job.config.evaluate.tasks.names)]
    models = {model for job in planned for model in models_of(job.config)}
    with display() as progress:
        fetch(filter(None, sets), progress)
        build_missing(models, progress)


def build_missing(models: Iterable[Model], progress: Report) -> None:
    """Build those of the models that are the zoo's and not in the cache."""
    if missing := {name for model in models if (name := source_of(model).to_build)}:
        from dapa_exp.zoo.build import build

        build(sorted(missing), progress)
