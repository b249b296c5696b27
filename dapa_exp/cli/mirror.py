"""`dapa mirror DIR`: sends finished records to Weights & Biases."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import get_args

from dapa_exp.base.errors import DapaError, complain
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.mirror import Destination, Mode, mirror_all


def mirror_command(words: Sequence[str]) -> int:
    """`dapa mirror DIR`: send the finished records of a sweep or a run."""
    parser = ArgumentParser("dapa mirror", description="Replay finished records to Weights & Biases.")
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder of a sweep or a run, such as multirun/miniature"
    )
    parser.add_argument("--mode", choices=get_args(Mode), default="offline", help="offline: files for `wandb sync`")
    parser.add_argument("--project", default="dapa")
    parser.add_argument("--entity", help="user or team; your own where left out")
    asked = parser.parse_args(words)
    done = mirror_all(asked.folder, Destination(asked.mode, asked.project, asked.entity))
    left = f", {done.unfinished} not finished (dapa status {asked.folder})" if done.unfinished else ""
    failed = f", {len(done.failed)} failed" if done.failed else ""
    print(f"{done.mirrored} mirrored ({asked.mode}), {done.skipped} mirrored before{failed}{left}")
    if asked.mode == "offline" and done.mirrored + done.skipped:
        copies = [str(RunLayout(place).mirror / "offline-run-*") for place in (asked.folder, asked.folder / "*")]
        print(f"to send them: wandb sync {' '.join(filter(glob, copies))}")
    for reason in done.failed:
        complain(DapaError(reason))
    return 1 if done.failed else 0
