"""Carries out a run, then its mirror to W&B. A failed mirror does not make the run fail."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError, StoppedError
from dapa_exp.base.progress import Report
from dapa_exp.config.schema import Config
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.mirror import destination, mirror
from dapa_exp.record.schema import Record
from dapa_exp.run import run


def execute(config: Config, folder: Path, report: Report) -> Record | None:
    """Carry out a run, mirror its record to W&B if the config says so, and return the record.

    Returns None if the config ends the run before its record (`record.until`). If the mirror fails, the reason is
    written to the run's folder, and `dapa status` shows it. Raises DapaError if the run fails, or if that reason cannot
    be written.
    """
    try:
        record = run(config, folder, report)
    except StoppedError:
        return None
    if to := destination(config.record):
        try:
            mirror(folder, to)
        except DapaError:
            if not RunLayout(folder).mirror_failure.is_file():  # it holds the reason
                raise
    return record
