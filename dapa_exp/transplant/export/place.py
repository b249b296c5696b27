"""The output path of an export: it must not exist, and its disk must have enough space."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic


@contextmanager
def new_output(out: Path, needed_bytes: int) -> Iterator[Path]:
    """Yield a temporary path to write to. It is renamed to `out` if the block succeeds, and removed if it raises.

    Raises DapaError if `out` exists, or the disk has less than `needed_bytes` free.
    """
    if out.exists():
        raise DapaError(f"{out}: is there already; name another place")
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
