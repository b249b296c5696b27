"""Loads prompt sets as lists of `Prompt`, from the zoo's invented world, a fetched package, a file or the hub."""

from __future__ import annotations

import hashlib
import json
import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.schema import SINGLE_SETS, Attack, Dataset, Rows
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.prompts.files import Row, RowTable, as_text, is_table, read_table, table_of
from dapa_exp.prompts.overlap import distinct, unlike, unseen
from dapa_exp.prompts.prompt import Message, Prompt
from dapa_exp.zoo import world

REQUEST = "{request}"
"""Where a template has the request."""


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a prompt set were used, and why the others were left out."""

    named: int
    """All rows that the config names."""
    repeated: int = 0
    """Rows left out because an earlier row of the set has the same prompt."""
    searched: int = 0
    """Rows left out because a search row has the same prompt."""
    similar: int = 0
    """Other rows that resemble a search row. They are left out if `dataset.drop_similar` is true."""
    used: int = 0

    def sentence(self, threshold: float) -> str | None:
        """These counts in words, for a reader of the results. None if all rows are used and none is similar.

        `threshold` is the Jaccard index from which rows count as similar.
        """
        similar = f"{self.similar} resemble a search row (Jaccard {threshold:g} or more)"
        causes = {
            f"{self.repeated} repeat an earlier row": self.repeated,
            f"{self.searched} are search rows too": self.searched,
            similar: self.named - self.repeated - self.searched - self.used,
        }
        said = []
        if dropped := sum(causes.values()):
            why = "; ".join(cause for cause, count in causes.items() if count)
            said.append(f"{dropped} of {self.named} rows are dropped ({why})")
        if self.similar and not causes[similar]:
            said.append(f"{similar} and are kept")
        return f"{'; '.join(said)}; {self.used} are used" if said else None


@dataclass(frozen=True)
class PromptSets:
    """All rows of a run, by use. No report set shares a prompt with `search`. No set repeats a prompt."""

    search: list[Prompt]
    report: list[Prompt]
    more_report: dict[str, list[Prompt]]
    harmless: list[Prompt]
    more_harmless: dict[str, list[Prompt]]
    text: list[Prompt]
    questions: list[Prompt]
    skill: list[Prompt]
    kept: dict[str, RowCounts]
    """For every use but `text` and `search`: how many rows were left out, and why."""
    attacked: dict[str, list[Prompt]] = field(default_factory=dict)
    """The report rows with a published jailbreak around each, by the attack's name."""

    @property
    def harmful(self) -> dict[str, list[Prompt]]:
        """All sets whose answers count as defences or not, by name; `report` is the first."""
        return {"report": self.report, **self.more_report, **self.attacked}

    @property
    def dropped(self) -> int:
        """How many report rows were left out because a search row has the same prompt."""
        return sum(kept.searched for kept in self.kept.values())

    def digests(self) -> dict[str, str]:
        """SHA-256 over the rows, by use."""
        found = {use: getattr(self, use) for use in SINGLE_SETS if use != "skill" or self.skill}
        for use in ("more_report", "more_harmless"):
            found |= {f"{use}.{name}": rows for name, rows in getattr(self, use).items()}
        found |= {f"attacks.{name}": rows for name, rows in self.attacked.items()}
        return {use: digest(rows) for use, rows in found.items()}


def load_prompts(dataset: Dataset) -> PromptSets:
    """Read every prompt set of a run. Raises DapaError, which names the missing set, column or rows."""
    search = search_prompts(dataset)
    found: dict[str, list[Prompt]] = {}
    kept: dict[str, RowCounts] = {}
    for use, rows in dataset.sets().items():
        if use == "text":
            found[use] = load_rows(rows, may_be_blank=dataset.text_joined)
        elif use.split(".")[0] != "attacks":
            against = search if use.split(".")[0] in ("report", "more_report") else []
            found[use], kept[use] = _fresh(dataset, use, rows, against)
    return PromptSets(
        search=search,
        report=found["report"],
        more_report={name: found[f"more_report.{name}"] for name in dataset.more_report},
        harmless=found.get("harmless", []),
        more_harmless={name: found[f"more_harmless.{name}"] for name in dataset.more_harmless},
        text=found.get("text", []),
        questions=found.get("questions", []),
        skill=found.get("skill", []),
        kept=kept,
        attacked={name: attacked(attack, found["report"]) for name, attack in dataset.attacks.items()},
    )


def attacked(attack: Attack, rows: Sequence[Prompt]) -> list[Prompt]:
    """The rows with a published jailbreak around each request. Of several templates, each row takes the next one."""
    templates = [row.text for row in load_rows(attack.templates)] if attack.templates else [attack.template or REQUEST]

    def text(place: int, request: str) -> str:
        template = templates[place % len(templates)]
        return (template if REQUEST in template else f"{template}\n\n{REQUEST}").replace(REQUEST, request)

    return [
        replace(row, messages=(*row.messages[:-1], Message("user", text(place, row.text))), request=row.text)
        for place, row in enumerate(rows)
    ]


def search_prompts(dataset: Dataset) -> list[Prompt]:
    """The rows of the search: each prompt once, with the data set's system prompt."""
    return _fresh(dataset, "search", dataset.search, [])[0]


def load_rows(rows: Rows, *, may_be_blank: bool = False) -> list[Prompt]:
    """Read the rows that the config names of a prompt set, in the set's order.

    Raises DapaError for a missing column, or a blank row if not `may_be_blank` (lines of one text may be blank).
    """
    table = _table(rows)
    columns = [c for c in (rows.column, rows.answer_column, rows.category_column) if c]
    _refuse_missing(rows, [*columns, *rows.where], table.columns)
    names = _names(rows, table)
    return [
        Prompt(
            names[place],
            _turns(rows, place, table.rows[place][rows.column], may_be_blank),
            category=_cell(rows, place, table.rows[place], rows.category_column),
            answer=_cell(rows, place, table.rows[place], rows.answer_column),
        )
        for place in _chosen(rows, _places(rows, table))
    ]


def digest(prompts: Iterable[Prompt]) -> str:
    """SHA-256, in hex, over ids, messages, categories and answers of these rows, and over requests under attack."""
    known = [{key: value for key, value in asdict(row).items() if key != "request" or value} for row in prompts]
    text = json.dumps(known, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _fresh(dataset: Dataset, use: str, rows: Rows, search: Sequence[Prompt]) -> tuple[list[Prompt], RowCounts]:
    """The rows of a set without duplicates and without search prompts, and the counts of rows left out.

    Raises DapaError if no row is left.
    """
    read = [_with_system(dataset, rows, prompt) for prompt in load_rows(rows)]
    once = distinct(read)
    new = unseen(once, search)
    if not new:
        raise DapaError(f"{dataset.name}: every {use} prompt is also a search prompt; nothing is left to report on")
    apart = unlike(new, search, dataset.similar_at)
    used = apart if dataset.drop_similar else new
    if not used:
        raise DapaError(
            f"{dataset.name}: every {use} prompt resembles a search prompt (Jaccard {dataset.similar_at:g} or more);"
            " dataset.drop_similar=false keeps such prompts, and counts them"
        )
    return used, RowCounts(len(read), len(read) - len(once), len(once) - len(new), len(new) - len(apart), len(used))


def _with_system(dataset: Dataset, rows: Rows, prompt: Prompt) -> Prompt:
    """The prompt with the data set's system prompt before it. Raises DapaError if it already has a system prompt."""
    if dataset.system_prompt is None:
        return prompt
    if any(turn.role == "system" for turn in prompt.messages):
        raise DapaError(
            f"{rows.source}: the conversation {prompt.id} has a system prompt of its own, and dataset.system_prompt"
            " would be a second one: set it to null"
        )
    return replace(prompt, messages=(Message("system", dataset.system_prompt), *prompt.messages))


def _names(rows: Rows, table: RowTable) -> list[str]:
    """One id for each row: its `id` column if all values there are different, else source, split and row number."""
    own = [row.get("id") for row in table.rows]
    names = [str(name).strip() for name in own if isinstance(name, (str, int, float))]
    if all(names) and len(set(names)) == len(own):
        return names
    return [f"{rows.source}:{rows.split}:{place}" for place in range(len(own))]


def _cell(rows: Rows, place: int, row: Row, column: str | None) -> str | None:
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
            raise DapaError(f"{rows.source}: no column '{column}';{nearest(column, there)} it has: {', '.join(there)}")


def is_here(rows: Rows) -> bool:
    """Whether a set is made, fetched or kept on this machine, so that reading it needs no network."""
    path = Path(rows.source).expanduser()
    return rows.source.startswith("zoo:") or bool(rows.fetched_name) or is_table(path) or path.exists()


def _table(rows: Rows) -> RowTable:
    if rows.source.startswith("zoo:"):
        return table_of(world.prompt_set(rows.source.removeprefix("zoo:")))
    if rows.fetched_name:
        return table_of(fetched_rows(rows.fetched_name))
    path = Path(rows.source).expanduser()
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
    wanted = {rows.column, rows.answer_column, rows.category_column, *rows.where, "id"}
    columns = tuple(found.column_names)
    return RowTable(columns, found.select_columns([column for column in columns if column in wanted]).to_list())


def _unreadable(rows: Rows, error: BaseException) -> DapaError:
    empty = isinstance(error, StopIteration) or "corresponds to no data" in str(error)  # the words of `datasets`
    return DapaError(f"prompt set {rows.source}: cannot be read: {'it holds no rows' if empty else str(error).strip()}")
