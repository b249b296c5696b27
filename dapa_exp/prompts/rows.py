"""Reads the rows of a prompt set that a config names: of the invented world, a fetched package, a file or the hub."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.base.files import expanded
from dapa_exp.config.dataset import Rows
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.prompts.files import Row, RowTable, as_text, is_table, read_table, table_of
from dapa_exp.prompts.prompt import Message, Prompt
from dapa_exp.zoo import world

_WRITTEN_TURNS = re.compile(r"""\s*\[\s*\{\s*(['"])(role|content|from|value)\1\s*:""")
"""The beginning of a list of turns as pandas and `datasets` write it into a CSV file."""


def load_rows(rows: Rows, *, may_be_blank: bool = False) -> list[Prompt]:
    """Read the rows that the config names of a prompt set, in the set's order.

    Raises DapaError for a missing column, or a blank row if not `may_be_blank` (lines of one text may be blank).
    """
    table, names = read_chosen(rows, [rows.column, rows.answer_column, rows.category_column])
    return [
        Prompt(
            name,
            _turns(rows, place, table.rows[place][rows.column], may_be_blank),
            category=cell(rows, place, table.rows[place], rows.category_column),
            answer=cell(rows, place, table.rows[place], rows.answer_column),
        )
        for place, name in names.items()
    ]


def read_chosen(rows: Rows, columns: Iterable[str | None]) -> tuple[RowTable, dict[int, str]]:
    """The table of a set, and the ids of the rows that the config names, by their numbers in it.

    Raises DapaError if one of the columns is missing.
    """
    table = _table(rows)
    _refuse_missing(rows, [*(column for column in columns if column), *rows.where], table.columns)
    names = _names(rows, table)
    return table, {place: names[place] for place in _chosen(rows, _places(rows, table))}


def _names(rows: Rows, table: RowTable) -> list[str]:
    """One id for each row: its `id` column if all values there are different, else source, split and row number."""
    own = [row.get("id") for row in table.rows]
    names = [str(name).strip() for name in own if isinstance(name, (str, int, float))]
    if all(names) and len(set(names)) == len(own):
        return names
    return [f"{rows.source}:{rows.split}:{place}" for place in range(len(own))]


def cell(rows: Rows, place: int, row: Row, column: str | None) -> str | None:
    """A row's cell as text; None if `column` is None. Raises DapaError if the cell is empty or is not text."""
    if column is None:
        return None
    return _full(rows, place, column, _as_text(rows, place, column, row[column]))


def _full(rows: Rows, place: int, column: str, text: str) -> str:
    if all(letter.isspace() or unicodedata.category(letter) == "Cf" for letter in text):  # Cf: takes no room
        raise DapaError(f"{rows.source}: row {place} has nothing in column '{column}'")
    return text


def _as_text(rows: Rows, place: int, column: str, cell: Any) -> str:
    try:
        return "" if cell is None or cell != cell else as_text(cell)  # NaN, which some tables have for nothing
    except ValueError as error:
        raise DapaError(f"{rows.source}: row {place} has {error} in column '{column}'") from None


def _turns(rows: Rows, place: int, value: Any, may_be_blank: bool) -> tuple[Message, ...]:
    """The messages in a cell: text is one user turn; a list of `{role, content}` is a conversation."""
    if not isinstance(value, (list, dict)):
        text = _as_text(rows, place, rows.column, value)
        if _WRITTEN_TURNS.match(text):
            raise DapaError(
                f"{rows.source}: row {place}: the conversation in '{rows.column}' is written as text; the model"
                " would be asked its brackets too. A .jsonl or .parquet file holds it as a list"
            )
        return (Message("user", text if may_be_blank and value is not None else _full(rows, place, rows.column, text)),)
    try:
        turns = tuple(Message(turn["role"], turn["content"]) for turn in value)
    except (KeyError, TypeError) as error:
        raise DapaError(f"{rows.source}: row {place}: a turn of '{rows.column}' lacks role or content") from error
    if not all(isinstance(turn.content, str) for turn in turns):
        raise DapaError(f"{rows.source}: row {place}: the content of a turn in '{rows.column}' is not text")
    if not turns or turns[-1].role != "user" or {turn.role for turn in turns} - {"system", "user", "assistant"}:
        raise DapaError(
            f"{rows.source}: row {place}: the conversation in '{rows.column}' must be of roles"
            " system, user and assistant, and end with the user"
        )
    for turn in turns:
        _full(rows, place, rows.column, _as_text(rows, place, rows.column, turn.content))
    return turns


def _places(rows: Rows, table: RowTable) -> Sequence[int]:
    """The row numbers in the table that satisfy `where`. `rows.rows` is a slice of this list."""
    places = [place for place, row in enumerate(table.rows) if _passes(rows, place, row)]
    first, last = rows.rows
    if last > len(places):
        which = "".join(f" with {column} '{value}'" for column, value in rows.where.items())
        raise DapaError(f"{rows.source}: rows {first}-{last} asked for, but it has {len(places)}{which}")
    return places


def _passes(rows: Rows, place: int, row: Row) -> bool:
    """Whether a row's cells equal the values in `where`. An empty cell does not equal the text "None"."""
    return all(
        row[column] is not None and _as_text(rows, place, column, row[column]) == value
        for column, value in rows.where.items()
    )


def _chosen(rows: Rows, places: Sequence[int]) -> Sequence[int]:
    """The row numbers to read, in ascending order: the whole slice, or a seeded random sample of it."""
    places = places[slice(*rows.rows)]
    return sorted(random.Random(rows.sample_seed).sample(places, rows.sample)) if rows.sample else places


def _refuse_missing(rows: Rows, wanted: Iterable[str], there: Sequence[str]) -> None:
    for column in wanted:
        if column not in there:
            raise DapaError(f"{rows.source}: no column '{column}'.{allowed_names(column, there, 'It has')}")


def is_here(rows: Rows) -> bool:
    """Whether a set is made, fetched or kept on this machine, so that reading it needs no network."""
    path = expanded(rows.source)
    return rows.source.startswith("zoo:") or bool(rows.fetched_name) or is_table(path) or path.exists()


def _table(rows: Rows) -> RowTable:
    if rows.source.startswith("zoo:"):
        return table_of(world.prompt_set(rows.source.removeprefix("zoo:")))
    if rows.fetched_name:
        return table_of(fetched_rows(rows.fetched_name))
    path = expanded(rows.source)
    if path.is_dir():  # `datasets` would read it in place of a hub's set of this name, and remember it
        raise DapaError(f"{rows.source}: a folder of this machine: name one of its .csv, .jsonl or .parquet files")
    return read_table(path) if is_here(rows) else _of_hub(rows)


def _of_hub(rows: Rows) -> RowTable:
    """The columns of a hub data set that the config names, and its `id` column if it has one."""
    import datasets  # imported here: it takes seconds, and only hub data sets need it

    datasets.disable_progress_bars()  # they would disturb our own progress display; our errors replace its log
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        found = datasets.load_dataset(rows.source, rows.subset, split=rows.split, revision=rows.revision)
    except datasets.exceptions.DatasetGenerationError as error:  # only its cause says why it failed
        raise _unreadable(rows, error.__cause__ or error) from error
    except (OSError, ValueError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise _unreadable(rows, error) from error
    columns = tuple(found.column_names)
    return RowTable(columns, found.select_columns([name for name in columns if name in rows.wanted(columns)]).to_list())


def _unreadable(rows: Rows, error: BaseException) -> DapaError:
    empty = isinstance(error, StopIteration) or "corresponds to no data" in str(error)  # the words of `datasets`
    return DapaError(f"prompt set {rows.source}: cannot be read: {'it holds no rows' if empty else str(error).strip()}")
