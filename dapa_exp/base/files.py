"""Files and folders that are whole or not there: written under a temporary name, flushed to the disk, then renamed.

A process that is killed leaves its temporary file behind. Whoever writes to that place next removes it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+(-[0-9a-f]{8})?")
"""`.NAME.PID-RANDOM`: two processes, or two machines, never write to the same one. Older ones have no random part."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file such that it has its old content or the new one, whatever is killed and whenever."""
    with atomic(path) as part, part.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` for a file or folder: it becomes `path` where the block ends well, else it goes.

    A folder that is at `path` already makes way. All that was written is on the disk before the name is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as part:
        yield part
        _flush(part)
        with temporary(path) as old:
            if path.is_dir() and not path.is_symlink():
                path.rename(old)
            part.replace(path)
        _sync(path.parent)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file or folder that goes with the block."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield part
    finally:
        remove(part)


def leftovers(folder: Path, name: str | None = None, older_than: float = 0.0) -> list[Path]:
    """What killed processes left under temporary names in a folder: of one name, or of all.

    Only who has locked the folder knows that nobody is writing it still; others tell by its age in seconds.
    """
    if not folder.is_dir():
        return []
    latest = time.time() - older_than
    return [
        path
        for path in folder.iterdir()
        if (match := _TEMPORARY.fullmatch(path.name))
        and name in (None, match["name"])
        and (not older_than or path.lstat().st_mtime < latest)
    ]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(written: Path) -> None:
    """Have a file, or all of a folder, on the disk: a rename may reach it before what was written does."""
    for folder, _, names in os.walk(written):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if written.is_file():
        _sync(written)


def _sync(path: Path) -> None:
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:  # a link to nowhere, or a folder on a system that does not open folders
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if not path.is_dir():  # some file systems do not sync folders
            raise error
    finally:
        os.close(opened)
