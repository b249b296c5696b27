"""Prompt sets in one typed form, from the miniature world, a fetched package, a file, or the hub."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.schema import Dataset, Rows
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.prompts.prompt import Message, Prompt
from dapa_exp.zoo import world

FILE_READERS = {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class PromptSets:
    """The rows of a run by use. No report set shares a prompt with `search`; `dropped` counts what that cost."""

    search: list[Prompt]
    report: list[Prompt]
    more_report: dict[str, list[Prompt]]
    harmless: list[Prompt]
    more_harmless: dict[str, list[Prompt]]
    text: list[Prompt]
    questions: list[Prompt]
    dropped: int

    def digests(self) -> dict[str, str]:
        """SHA-256 over the rows of each use."""
        found = {use: getattr(self, use) for use in ("search", "report", "harmless", "text", "questions")}
        for use in ("more_report", "more_harmless"):
            found |= {f"{use}.{name}": rows for name, rows in getattr(self, use).items()}
        return {use: digest(rows) for use, rows in found.items()}


def load_prompts(dataset: Dataset) -> PromptSets:
    """Read every prompt set of a run. Raises DapaError naming the set, column or rows that are not there."""
    search = load_rows(dataset.search)
    asked = {"report": load_rows(dataset.report), **_each(dataset.more_report)}
    fresh = {name: _unseen(rows, search) for name, rows in asked.items()}
    if seen := next((name for name, rows in fresh.items() if not rows), None):
        raise DapaError(f"{dataset.name}: every {seen} prompt is also a search prompt; nothing is left to report on")
    dropped = sum(len(asked[name]) - len(rows) for name, rows in fresh.items())
    return PromptSets(
        search=search,
        report=fresh.pop("report"),
        more_report=fresh,
        harmless=load_rows(dataset.harmless) if dataset.harmless else [],
        more_harmless=_each(dataset.more_harmless),
        text=load_rows(dataset.text) if dataset.text else [],
        questions=load_rows(dataset.questions) if dataset.questions else [],
        dropped=dropped,
    )


def load_rows(rows: Rows) -> list[Prompt]:
    """Read one slice of a prompt set, in its own order."""
    table = _table(rows)
    found = {place: table[place] for place in _chosen(rows, _places(rows, table))}
    columns = [c for c in (rows.column, rows.answer_column, rows.category_column) if c]
    _refuse_missing(rows, columns, next(iter(found.values())))
    for place, row in found.items():
        if empty := next((column for column in columns if row[column] is None), None):
            raise DapaError(f"{rows.source}: row {place} has nothing in column '{empty}'")
    prompts = [
        Prompt(
            str(row.get("id", f"{rows.source}:{rows.split}:{place}")),
            _turns(rows, place, row[rows.column]),
            category=_cell(row[rows.category_column]) if rows.category_column else None,
            answer=_cell(row[rows.answer_column]) if rows.answer_column else None,
        )
        for place, row in found.items()
    ]
    repeated = [name for name, count in Counter(found.id for found in prompts).items() if count > 1]
    if repeated:
        raise DapaError(f"{rows.source}: the id '{repeated[0]}' stands in more than one row")
    return prompts


def _each(sets: Mapping[str, Rows]) -> dict[str, list[Prompt]]:
    return {name: load_rows(rows) for name, rows in sets.items()}


def _unseen(rows: list[Prompt], search: list[Prompt]) -> list[Prompt]:
    """The rows whose prompts are not, nearly word for word, among the search's."""
    seen = {_normal(row.text) for row in search}
    return [row for row in rows if _normal(row.text) not in seen]


def _cell(value: Any) -> str:
    """A cell as text. One that is empty or has a fraction makes readers take a column's whole numbers for 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _turns(rows: Rows, place: int, value: Any) -> tuple[Message, ...]:
    """What a column holds: one user turn as text, or a conversation as a list of `{role, content}`."""
    if not isinstance(value, (list, dict)):
        return (Message("user", str(value)),)
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
    return turns


def _places(rows: Rows, table: Any) -> Sequence[int]:
    """The places of the table's rows that `rows.rows` counts: all, or those that `where` lets through."""
    places: Sequence[int] = range(len(table))
    if rows.where and places:
        _refuse_missing(rows, rows.where, table[0])
        places = [i for i in places if all(_cell(table[i][column]) == value for column, value in rows.where.items())]
    first, last = rows.rows
    if last > len(places):
        which = "".join(f" with {column} '{value}'" for column, value in rows.where.items())
        raise DapaError(f"{rows.source}: rows {first}-{last} asked for, but it has {len(places)}{which}")
    return places


def _chosen(rows: Rows, places: Sequence[int]) -> Sequence[int]:
    """The places that are read, in order: all in the slice, or a seeded draw of some."""
    places = places[slice(*rows.rows)]
    return sorted(random.Random(rows.sample_seed).sample(places, rows.sample)) if rows.sample else places


def _refuse_missing(rows: Rows, columns: Iterable[str], row: Mapping[str, Any]) -> None:
    for column in columns:
        if column not in row:
            raise DapaError(f"{rows.source}: no column '{column}';{nearest(column, row)} it has: {', '.join(row)}")


def digest(prompts: Iterable[Prompt]) -> str:
    """SHA-256 over rows."""
    text = json.dumps([asdict(row) for row in prompts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(rows: Rows) -> Any:
    """A sequence of rows, each a dict."""
    if rows.source.startswith("zoo:"):
        return world.prompt_set(rows.source.removeprefix("zoo:"))
    if rows.fetched_name:
        return fetched_rows(rows.fetched_name)
    import datasets  # seconds to import, and the miniature world needs none of it

    datasets.disable_progress_bars()  # they would break through ours, and its log says what our errors say
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        path = Path(rows.source).expanduser()
        if path.suffix in FILE_READERS:
            return datasets.load_dataset(FILE_READERS[path.suffix], data_files=str(path), split="train")
        if path.is_file():
            raise DapaError(f"prompt set {rows.source}: only .csv, .jsonl and .parquet files are read")
        return datasets.load_dataset(rows.source, rows.subset, split=rows.split, revision=rows.revision)
    except datasets.exceptions.DatasetGenerationError as error:  # this says that it failed; its cause, why
        raise _unreadable(rows, error.__cause__ or error) from error
    except (OSError, ValueError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise _unreadable(rows, error) from error


def _unreadable(rows: Rows, error: BaseException) -> DapaError:
    empty = isinstance(error, StopIteration) or "corresponds to no data" in str(error)  # as `datasets` puts it
    return DapaError(f"prompt set {rows.source}: cannot be read: {'it holds no rows' if empty else str(error).strip()}")


def _normal(text: str) -> str:
    """A prompt without what makes near-duplicates differ: case, punctuation, spacing."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
