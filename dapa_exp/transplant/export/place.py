"""Where an export goes: a place that nothing has yet, on a disk with room for it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic


@contextmanager
def placed(out: Path, needed_bytes: int) -> Iterator[Path]:
    """A temporary name beside `out` for a file or folder; it becomes `out` where the block ends well, and else goes.

    Raises DapaError where `out` is there already, or the disk has no room for it.
    """
    if out.exists():
        raise DapaError(f"{out}: is there already; name a place that is not")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _refuse_too_little_space(out, needed_bytes)
        with atomic(out) as part:
            yield part
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DapaError(f"{out}: no space left on the disk; nothing was kept") from error
        raise DapaError(f"{error.filename or out}: {error.strerror or error}") from error


def _refuse_too_little_space(out: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < needed_bytes:
        raise DapaError(f"{out}: {needed_bytes / 1e9:.2f} GB are needed, and the disk has {free / 1e9:.2f} GB left")
