"""Journals: files with one JSON object on each line.

Reading never changes a journal. The writer removes an incomplete last line, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.record.schema import damage

Line = dict[str, Any]


def read_lines(path: Path, schema: type[BaseModel]) -> list[Line]:
    """The validated lines of a journal; an empty list if there is no such file.

    A last line without a line break was cut off by a kill or a full disk, and is left out. Raises DapaError, which
    names the line, if any other line does not match `schema`.
    """
    return _read(path, schema)[0]


class Journal:
    """A journal opened for appending by the only process that writes to it. Each line is flushed to the disk.

    The first append removes an incomplete last line.
    """

    def __init__(self, path: Path, schema: type[BaseModel], guard: Callable[[], None] | None = None) -> None:
        """`guard` is called before each write, and raises where this process may not write any more.

        Raises DapaError if a complete line does not match `schema`.
        """
        self.path = path
        self._guard = guard
        self.lines, self._size = _read(path, schema)

    def append(self, *entries: Line) -> None:
        """Append entries in one write. If the disk is full, the file keeps its earlier lines.

        Raises DapaError, and changes nothing, if another process has written to the file or shortened it.
        """
        self._refuse_another_writer()
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()
        if self._guard:
            self._guard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as stream:
            if stream.tell() > self._size:
                stream.truncate(self._size)
            try:
                _write_whole(stream.fileno(), text)
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):
                    stream.truncate(self._size)
                raise
        self._size += len(text)
        self.lines += entries

    def _refuse_another_writer(self) -> None:
        try:
            with self.path.open("rb") as stream:
                end = stream.seek(0, os.SEEK_END)
                stream.seek(min(self._size, end))
                changed = end < self._size or b"\n" in stream.read(end - self._size)
        except FileNotFoundError:
            changed = self._size > 0
        if changed:
            raise DapaError(f"{self.path}: another process has changed it; nothing was written. Run the command again")


def _write_whole(file: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(file, left) :]


def _read(path: Path, schema: type[BaseModel]) -> tuple[list[Line], int]:
    """The complete lines of a file, validated, and their total size in bytes."""
    if not path.is_file():
        return [], 0
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DapaError(f"{path}: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1]
    return [_checked(path, number, line, schema) for number, line in enumerate(whole.split(b"\n")[:-1], 1)], len(whole)


def _checked(path: Path, number: int, text: bytes, schema: type[BaseModel]) -> Line:
    try:
        line: Line = json.loads(text.decode())
        schema.model_validate(line, strict=True)
        if line.get("index", number - 1) != number - 1:  # certificates refer to queries by this index
            raise ValueError(f"its index is {line['index']}, not {number - 1}")
    except ValueError as error:
        said = damage(error) if isinstance(error, ValidationError) else str(error)
        raise DapaError(
            f"{path}, line {number}: damaged ({said}); nothing was changed. Mend the line, or delete it and all lines"
            " after it: the same command computes them again"
        ) from error
    return line
