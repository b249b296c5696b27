"""Atomic writes: a file or folder is written under a temporary name, flushed to the disk, then renamed.

So a reader finds a complete file or none. A process that is killed leaves its temporary file behind;
`leftovers` finds it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+(-[0-9a-f]{8})?")
"""`.NAME.PID-RANDOM`: no two processes or machines share a temporary name. Older versions had no random part."""


def expanded(path: str) -> Path:
    """A path whose `~` or `~user` is a home folder. One of no user stays as it is: a file may be called so."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file. None if there is no such file, or it holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file. If the process is killed at any time, the file has its complete old or its complete new content."""
    with atomic(path) as part, part.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, to write a file or folder to.

    If the block succeeds, the temporary path is flushed to the disk and renamed to `path`, replacing an older file or
    folder. If the block raises, the temporary path is removed.
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
    """Yield an unused path beside `path`. Whatever the block writes there is removed when the block ends."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield part
    finally:
        remove(part)


def leftovers(folder: Path, name: str | None = None, older_than: float = 0.0) -> list[Path]:
    """Temporary files and folders that killed processes left in `folder`: those for the file `name`, or all.

    A temporary file may also belong to a process that is still writing. A caller that holds the folder's lock can
    rule this out. Any other caller passes `older_than`, in seconds, to get old ones only.
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
    """Remove a file, or a folder and its content. Does nothing if `path` does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(written: Path) -> None:
    """Flush a file, or everything in a folder, to the disk.

    Without this, the disk may store the rename before the content, and a power failure would leave an empty file.
    """
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
