"""Reads rows from the user's own .csv, .jsonl or .parquet file, cell by cell, without guessing types or encodings."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dapa_exp.base.errors import DapaError

Row = dict[str, Any]

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order marks of encodings other than UTF-8."""
_PACKED = {b"\x1f\x8b": "compressed with gzip", b"PK": "a zip archive, such as .xlsx"}
"""The first bytes of files that hold no text."""


@dataclass(frozen=True)
class RowTable:
    """Rows in file order. Every row has every column; an empty cell is None."""

    columns: tuple[str, ...]
    rows: list[Row]
    lines: tuple[int, ...] = ()
    """The number of each row's first line in the file, where it has lines."""

    def at(self, place: int) -> str:
        """Where a row stands, for a message."""
        return f"line {self.lines[place]}" if self.lines else f"row {place}"


def is_table(path: Path) -> bool:
    """Whether a file's name ends in .csv, .jsonl or .parquet."""
    return path.suffix in _READERS


def read_table(path: Path) -> RowTable:
    """The rows of a .csv, .jsonl or .parquet file. The file is read anew each time.

    All cells of CSV and all numbers of JSON are text, so `1.50` stays "1.50". Raises DapaError, which names the line
    and a remedy, if the file is missing, damaged or ambiguous.
    """
    if not is_table(path):
        raise DapaError(f"{path}: only .csv, .jsonl and .parquet files are read")
    try:
        table = _READERS[path.suffix](path)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
        raise DapaError(f"{path}: cannot be read: {said}") from error
    if not table.rows:
        raise DapaError(f"{path}: cannot be read: it holds no rows")
    return table


def table_of(rows: Iterable[Row]) -> RowTable:
    """A table of these rows. If a row lacks a column, its cell is None."""
    rows = list(rows)
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return RowTable(columns, [{column: row.get(column) for column in columns} for row in rows])


def as_text(cell: Any) -> str:
    """A cell as text. The float 3.0 becomes "3": some readers store whole numbers as floats if a column has gaps.

    Raises ValueError if the cell holds a list or an object, bytes that are not UTF-8, or half a character.
    """
    if isinstance(cell, (list, dict)):
        raise ValueError("a list, not text," if isinstance(cell, list) else "an object, not text,")
    if isinstance(cell, bytes):
        raise ValueError("bytes that are no UTF-8 text")
    if isinstance(cell, str) and not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
        raise ValueError("half a character (a lone surrogate)")
    if isinstance(cell, bool):
        return json.dumps(cell)  # as it is written
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _csv(path: Path) -> RowTable:
    csv.field_size_limit(sys.maxsize)  # a prompt may be longer than the 131,072 characters that csv allows
    records = _records(csv.reader(io.StringIO(_text(path), newline=""), strict=True))
    _, header = next(records, (0, []))
    _check_header(header)
    full = list(_full(records, header))
    rows = [dict(zip(header, cells, strict=True)) for _, cells in full]
    return RowTable(tuple(header), rows, tuple(line for line, _ in full))


def _records(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """For each row of a CSV file, the number of its first line and its cells. Empty lines are skipped."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"line {line}: {error}: a quotation mark is missing, or must be doubled") from error
        if cells is None:
            return
        if cells:
            yield line, cells


def _full(records: Iterator[tuple[int, list[str]]], header: list[str]) -> Iterator[tuple[int, list[str]]]:
    for line, cells in records:
        if len(cells) != len(header):
            raise ValueError(
                f"line {line}: {len(cells)} cells where the header has {len(header)} ({', '.join(header)});"
                ' a text with a comma, a quotation mark or a line break in it must stand in quotation marks: "a, b"'
            )
        if cells == header:
            raise ValueError(f"line {line}: repeats the header, as after joining two files: delete it")
        yield line, cells


def _check_header(header: list[str]) -> None:
    if len(header) == 1 and (mark := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise ValueError(f"its cells are separated by {mark!r}: save it with commas between them, or as .jsonl")
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"line 1: the header has {repeated[0]!r} more than once: rename all but one")


def _jsonl(path: Path) -> RowTable:
    lines = {number: line for number, line in enumerate(_text(path).split("\n"), 1) if line.strip()}
    return replace(table_of(_object(number, line) for number, line in lines.items()), lines=tuple(lines))


def _object(number: int, line: str) -> Row:
    try:
        row = json.loads(
            line, parse_int=str, parse_float=str, parse_constant=_no_number, object_pairs_hook=_each_key_once
        )
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number}: not a JSON object")
    return row


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON; null says that a value is missing")


def _each_key_once(pairs: list[tuple[str, Any]]) -> Row:
    if repeated := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise ValueError(f"has {repeated[0]!r} more than once")
    return dict(pairs)


def _parquet(path: Path) -> RowTable:
    import pyarrow as pa  # takes a second to import
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    rows = table.to_pylist()
    for field in table.schema:
        if _holds_bytes(field.type):
            for row in rows:
                row[field.name] = _decoded(row[field.name])
    return RowTable(tuple(table.column_names), rows)


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _decoded(cell: bytes | None) -> str | bytes | None:
    """Bytes decoded as UTF-8. Other bytes are returned unchanged; `as_text` refuses them if the column is used."""
    try:
        return cell if cell is None else cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell


def _text(path: Path) -> str:
    """A UTF-8 file's text without its byte order mark. Raises ValueError, with a remedy, for another encoding."""
    content = path.read_bytes()
    if (kind := _PACKED.get(content[:2])) and not content.isascii():
        raise ValueError(f"it is {kind}: unpack it, or save it as text")
    if name := _MARKS.get(content[:2]):
        raise ValueError(f"its text is {name}, not UTF-8. This converts it: {_conversion(path, name)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8; the text may be Latin-1 (Windows-1252)."
            f" This converts it: {_conversion(path, 'WINDOWS-1252')}"
        ) from error
    if "\0" in text:
        raise ValueError(
            f"it holds NUL characters; the text may be UTF-16. This converts it: {_conversion(path, 'UTF-16')}"
        )
    return text


def _conversion(path: Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"


_READERS: dict[str, Callable[[Path], RowTable]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
