"""`dapa report DIR...`: makes tables, figures and a page from records."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from analysis.report import report
from dapa_exp.base.progress import console


def report_command(words: Sequence[str]) -> int:
    """`dapa report DIR...`: print and write the tables of the sweeps or runs in these folders."""
    parser = ArgumentParser("dapa report", description="Tables, figures and one HTML page from finished records.")
    parser.add_argument(
        "folders",
        type=Path,
        metavar="DIR",
        nargs="+",
        help="the folder of a sweep or a run; several are shown together",
    )
    parser.add_argument("--html", action="store_true", help="the page alone: prints no tables, writes no other files")
    parser.add_argument("--answers", action="store_true", help="the page holds answers to harmful prompts, blurred")
    parser.add_argument("--parquet", action="store_true", help="also write frame.parquet: every number, typed")
    asked = parser.parse_args(words)
    report(asked.folders, console(), page_alone=asked.html, answers=asked.answers, parquet=asked.parquet)
    return 0
