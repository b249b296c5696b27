"""`dapa drift`: takes the same config as `dapa run`, and adds a run for each round."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from analysis import load
from analysis.tables.drift import drift_table
from dapa_exp.base.progress import display
from dapa_exp.cli.compose import compose
from dapa_exp.sweep.prepare import prepare


def drift_command(words: Sequence[str]) -> int:
    """Carry out a run and its rounds, or with -m several one after the other. Prints the table of the rounds."""
    from dapa_exp.drift import drift

    # The settings of a drift are not part of a run's identity: two drifts may begin with the same run.
    planned = list({(job.folder, repr(job.config.drift)): job for job in compose(words).jobs}.values())
    prepare(planned)
    for job in planned:
        with display() as report:
            drift(job.config, job.folder, report)
    for folder in dict.fromkeys(job.folder.parent for job in planned):
        drift_table(load(folder)).print(Console())
    return 0
