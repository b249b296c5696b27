"""`dapa gc DIR`: what lies in a sweep's folder and no record needs."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.preflight.totals import format_bytes
from dapa_exp.sweep.collect import garbage


def gc_command(words: list[str]) -> int:
    """`dapa gc DIR [--yes]`: list the files that no record needs in a sweep's folder; with --yes, remove them.

    Nothing that was measured, generated or not yet sent to W&B is ever listed, nor is a run that is being worked on.
    """
    folders = [word for word in words if word != "--yes"]
    if len(folders) != 1:
        raise DapaError("dapa gc needs one folder, such as multirun/miniature")
    found = garbage(Path(folders[0]))
    size = format_bytes(sum(what.size for what in found))
    for what in found:
        print(f"{what.path}: {what.why}")
        if "--yes" in words:
            what.remove()
    done = "removed" if "--yes" in words else f"can be removed: dapa gc {folders[0]} --yes"
    print(f"{len(found)} files and folders, {size}, {done}" if found else "nothing to remove")
    return 0
