"""`dapa localise`: takes the same config as `dapa run`, and writes to its own folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from analysis.localise import draw_localisation
from dapa_exp.base.progress import display
from dapa_exp.cli.compose import compose
from dapa_exp.record.layout import LocaliseLayout, SweepLayout
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import prepare


def localise_command(words: Sequence[str]) -> int:
    """Carry out one localisation, or with -m several one after the other. Prints the paths of records and figures."""
    from dapa_exp.localise.localise import localise

    planned = {localise_folder(job): job for job in compose(words).jobs}
    prepare(list(planned.values()))
    for folder, job in planned.items():
        with display() as report:
            record = localise(job.config, folder, report)
        for path in (LocaliseLayout(folder).localisation, *draw_localisation(record, folder)):
            print(path)
    return 0


def localise_folder(job: Job) -> Path:
    """The folder of a localisation, below `localise/` of the sweep. Identity and tracing settings make it unique."""
    digest = hashlib.sha256(f"{job.identity}{job.config.localise.model_dump_json()}".encode()).hexdigest()
    name = f"{job.config.pair.name}-{job.config.dataset.name}-{digest[:8]}"
    return SweepLayout(job.folder.parent).localisations / name
