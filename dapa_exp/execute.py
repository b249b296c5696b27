"""A run and what follows it: the mirror, which can fail without harm to the run."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report
from dapa_exp.config.schema import Config
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.mirror import mirror
from dapa_exp.record.schema import Record
from dapa_exp.run import run


def execute(config: Config, folder: Path, report: Report) -> Record:
    """Carry out a run, then mirror its record to W&B where the config asks for it; `status` tells where that failed."""
    record = run(config, folder, report)
    if config.record.wandb != "off":
        try:
            mirror(
                folder,
                mode=config.record.wandb,
                project=config.record.wandb_project,
                entity=config.record.wandb_entity,
            )
        except DapaError:
            if not RunLayout(folder).unsent.is_file():  # which says why; else nobody would
                raise
    return record
