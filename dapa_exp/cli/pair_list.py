"""A list of pairs in a file, as a sweep: `dapa run -m +pairs=FILE`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.config.models import Model
from dapa_exp.prompts.files import Row, read_table

COLUMNS = {"student": "pair.student.id", "teacher": "family.teacher.id", "base": "transplant.base"}
"""The columns of a list of pairs, and the key that each sets."""
_WORD = re.compile(r"\+{0,2}pairs=(.*)")


def take_pairs(words: Sequence[str], multirun: bool) -> tuple[list[str], list[list[str]]]:
    """A command line without its list of pairs, and the overrides of each pair of the list: one empty list without it.

    Raises DapaError with every bad row of the file.
    """
    files = [match[1] for word in words if (match := _WORD.fullmatch(word))]
    if not files:
        return list(words), [[]]
    if not multirun:
        raise DapaError(f"pairs={files[0]}: a list of pairs is a sweep: dapa run -m +pairs={files[0]}")
    if chosen := [word for word in words if re.match(r"\+?pair=", word)]:
        raise DapaError(f"{chosen[0]}: the pairs come from {files[0]}")
    return [word for word in words if not _WORD.fullmatch(word)], read_pairs(Path(files[0]))


def read_pairs(file: Path) -> list[list[str]]:
    """The overrides of each pair in a file. Raises DapaError with every bad row: its place and what is wrong."""
    table = read_table(file)
    if missing := [name for name in ("student", "teacher") if name not in table.columns]:
        raise DapaError(f"{file}: no column {' and no '.join(missing)}; it has: {', '.join(table.columns)}")
    if unknown := sorted(set(table.columns) - COLUMNS.keys()):
        raise DapaError(f"{file}: unknown column {', '.join(unknown)}; allowed: {', '.join(COLUMNS)}")
    problems = [
        f"  row {place}: {problem}"
        for place, row in enumerate(table.rows, start=1)
        for problem in _problems(row, table.rows[: place - 1])
    ]
    if problems:
        raise DapaError("\n".join([f"{file}:", *problems]))
    named = [{name: cell.strip() for name, cell in row.items() if cell} for row in table.rows]
    return [["pair=own", *(f"{COLUMNS[name]}={quoted(cell)}" for name, cell in row.items())] for row in named]


def quoted(value: object) -> str:
    """A value as Hydra reads it, whatever characters are in it."""
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _problems(row: Row, before: Sequence[Row]) -> Iterator[str]:
    for name in COLUMNS:
        cell = str(row.get(name) or "").strip()
        if not cell and name != "base":
            yield f"{name} is empty"
        elif cell and (folder := Model(id=cell, revision=None).folder) and not folder.exists():
            yield f"{name}: no such folder {cell}"
    if row in before:
        yield f"the same as row {before.index(row) + 1}"
