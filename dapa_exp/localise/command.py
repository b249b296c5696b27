"""`dapa localise`: the same config as a run's, a folder of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dapa_exp.config.compose import Job, jobs
from dapa_exp.progress import display


def localise_command(words: Sequence[str]) -> int:
    """Carry out one localisation, or with -m one after another, and print where each record is."""
    from dapa_exp.localise.stage import localise

    for job in jobs(words):
        folder = localise_folder(job)
        with display() as report:
            localise(job.config, folder, report)
        print(folder)
    return 0


def localise_folder(job: Job) -> Path:
    """Apart from the runs of its experiment; unique by the identity and the settings of the tracing."""
    digest = hashlib.sha256(f"{job.identity}{job.config.localise.model_dump_json()}".encode()).hexdigest()
    name = f"{job.config.pair.name}-{job.config.dataset.name}-{digest[:8]}"
    return job.folder.parent / "localise" / name
