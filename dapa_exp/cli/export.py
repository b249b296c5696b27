"""`dapa export` and `dapa apply`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.base.progress import display
from dapa_exp.config.models import Model, model_id
from dapa_exp.sweep.prepare import build_missing
from dapa_exp.transplant.export.export import FORMATS, apply, export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.export.manifest import exported_identity
from dapa_exp.transplant.export.push import push

_BY_SUFFIX = {".safetensors": "patch", ".yaml": "mergekit", ".yml": "mergekit"}


def export_command(words: list[str]) -> int:
    """Carry out `dapa export RUN OUT [--format ...]`."""
    parser = argparse.ArgumentParser("dapa export", description="Writes the aligned model of a finished run.")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("out", type=Path, help="a file for a patch or recipe, a folder for a checkpoint")
    parser.add_argument("--format", choices=FORMATS, help="default: by OUT, .safetensors, .yaml, or a folder")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload the checkpoint to the hub; OUT may be there already"
    )
    arguments = parser.parse_args(words)
    kind = arguments.format or _by_suffix(arguments.out)
    if arguments.push and kind != "checkpoint":
        raise DapaError(f"--push {arguments.push}: only a checkpoint is uploaded, and {arguments.out} is a {kind}")
    finished = open_finished(arguments.run)
    if not (arguments.push and exported_identity(arguments.out) == finished.record.identity):
        export(finished, arguments.out, kind)
    print(f"{kind}: {arguments.out}")
    if arguments.push:
        print(f"uploaded: {push(arguments.out, arguments.push)}")
    return 0


def _by_suffix(out: Path) -> str:
    """The format that the suffix of `out` stands for.

    Raises DapaError for an unknown suffix: it is probably a misspelt one, and would become a checkpoint folder.
    """
    if out.suffix not in _BY_SUFFIX and (meant := nearest(out.suffix, _BY_SUFFIX)):
        raise DapaError(f"{out}: no format ends in '{out.suffix}'.{meant} --format checkpoint makes it a folder")
    return _BY_SUFFIX.get(out.suffix, "checkpoint")


def apply_command(words: list[str]) -> int:
    """Carry out `dapa apply PATCH STUDENT OUT`."""
    parser = argparse.ArgumentParser(
        "dapa apply", description="Puts a patch on its student, and writes the checkpoint."
    )
    parser.add_argument("patch", type=Path, help="a file that `dapa export` has written")
    parser.add_argument("student", help="the student: its hub id, zoo:NAME, its folder, or a .gguf file")
    parser.add_argument("out", type=Path, help="the folder to write")
    arguments = parser.parse_args(words)
    student = Model(id=model_id(arguments.student), revision=None)
    with display() as progress:
        build_missing([student], progress)
    apply(arguments.patch, student, arguments.out)
    print(f"checkpoint: {arguments.out}")
    return 0
