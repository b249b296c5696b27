"""`dapa report DIR...`: makes tables and figures from records."""

from __future__ import annotations

from pathlib import Path

from analysis.report import report
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import console


def report_command(words: list[str]) -> int:
    """`dapa report DIR...`: print and write the tables of the sweeps or runs in these folders."""
    if not words:
        raise DapaError("dapa report needs the folder of a sweep or of a run, such as multirun/miniature")
    report([Path(word) for word in words], console())
    return 0
