"""A run and what follows it: the mirror, which can fail without harm to the run."""

from __future__ import annotations

import logging
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report
from dapa_exp.config.schema import Config
from dapa_exp.record.mirror import mirror
from dapa_exp.record.schema import Record
from dapa_exp.run import run


def execute(config: Config, folder: Path, report: Report) -> Record:
    """Carry out a run, then mirror its record to W&B where the config asks for it."""
    record = run(config, folder, report)
    if config.record.wandb != "off":
        try:
            mirror(
                folder,
                mode=config.record.wandb,
                project=config.record.wandb_project,
                entity=config.record.wandb_entity,
            )
        except DapaError as error:
            logging.getLogger(__name__).warning("%s; the record is safe, and `dapa mirror` tries again", error)
    return record
