"""The config group `dataset`: which rows of which sets a run asks, and for what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, model_validator

from dapa_exp.config.group import Group
from dapa_exp.config.names import Count, FolderName, Real, Whole, refuse_strange
from dapa_exp.config.registries import METRICS


class Rows(Group):
    """A slice of a prompt set: `zoo:NAME`, `fetched:NAME`, a .csv/.jsonl/.parquet file, or a data set's hub id."""

    source: str
    revision: str | None
    subset: str | None
    split: str
    column: str
    answer_column: str | None
    category_column: str | None
    where: dict[str, str] = Field(description="only rows with these values, by column; `rows` is a slice of them")
    rows: tuple[Annotated[Whole, Field(ge=0)], Count]
    sample: Count | None = Field(description="how many of the rows to draw, without replacement; null: all")
    sample_seed: Whole

    def wanted(self, there: Iterable[str]) -> list[str]:
        """Which of a table's columns are read: those that the config names, and `id`."""
        named = (self.column, self.answer_column, self.category_column, *self.where, "id")
        return [name for name in there if name in named]

    @property
    def fetched_name(self) -> str | None:
        """The set's name for `dapa fetch`; None if the source is not a fetched set."""
        return self.source.removeprefix("fetched:") if self.source.startswith("fetched:") else None

    @property
    def count(self) -> int:
        """How many rows these are."""
        return self.sample or self.rows[1] - self.rows[0]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        first, last = self.rows
        if first >= last:
            raise ValueError(f"rows {list(self.rows)} hold nothing: the second number must be larger")
        if self.sample is not None and self.sample > last - first:
            raise ValueError(f"sample {self.sample} is more than rows {list(self.rows)} hold")
        return self


class ConversationRows(Rows):
    """A slice of a set of conversations. The user's turns are replayed, and the measured model answers them.

    `column` holds a list of turns. If it ends in `*`, each column that begins so, and ends in a number, holds a turn.
    """

    text_key: str = Field(default="content", description="the key of a turn's text, where a turn is not plain text")
    role_key: str | None = Field(default="role", description="the key of a turn's role; null: all are the user's")
    user: str = Field(default="user", description="the user's role")
    opening_column: str | None = Field(
        default=None, description="column with the number of first turns that ask for no harm: they are not judged"
    )

    def turn_columns(self, there: Iterable[str]) -> list[str]:
        """Which of a table's columns hold turns, in the order of the turns."""
        if not self.column.endswith("*"):
            return [self.column]
        begin = self.column.removesuffix("*")
        numbers = {name: name.removeprefix(begin) for name in there if name.startswith(begin)}
        return sorted((name for name, number in numbers.items() if number.isdecimal()), key=lambda n: int(numbers[n]))

    def wanted(self, there: Iterable[str]) -> list[str]:
        there = list(there)
        named = {*self.turn_columns(there), self.opening_column}
        return [name for name in there if name in named or name in super().wanted([name])]


class Attack(Group):
    """A published jailbreak: one template, or a prompt set of templates that the report rows take in turn.

    The request stands where a template says `{request}`, else after it.
    """

    template: Annotated[str, Field(min_length=1)] | None = None
    templates: Rows | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template is None) == (self.templates is None):
            raise ValueError("template and templates: set one of the two")
        if (place := re.search(r"\{+ *\w+ *\}+", self.template or "")) and "{request}" not in str(self.template):
            raise ValueError(f"template: holds {place[0]}; the request stands where it says {{request}}")
        return self


SINGLE_SETS = ("search", "report", "harmless", "text", "questions", "skill", "conversations")
"""The uses of a data set that have one prompt set each."""


class Dataset(Group):
    """The rows of the search, and those of the report. A metric is left out if its prompt set is null."""

    name: FolderName
    search: Rows
    report: Rows = Field(description="harmful rows for the headline DSR")
    more_report: dict[str, Rows] = Field(default={}, description="further harmful sets to report on, by name")
    attacks: dict[str, Attack] = Field(
        default={}, description="published jailbreaks, by name: the report rows are asked again with each around them"
    )
    harmless: Rows | None = Field(description="harmless rows for the headline over-refusal")
    more_harmless: dict[str, Rows] = Field(default={}, description="further harmless sets, by name")
    text: Rows | None
    text_joined: bool = Field(description="the text rows are lines of one text, and are joined by blank lines")
    questions: Rows | None
    skill: Rows | None = Field(default=None, description="questions about what only the student has been taught")
    conversations: ConversationRows | None = Field(
        default=None, description="conversations of several turns, for replay"
    )
    system_prompt: Annotated[str, Field(pattern=r"\S")] | None = Field(
        default=None, description="system prompt of all sets except text; null: none"
    )
    similar_at: Annotated[Real, Field(gt=0.0, le=1.0)] = Field(
        default=0.5, description="Jaccard index of words and word pairs from which two rows are similar"
    )
    drop_similar: bool = Field(default=True, description="leave out report rows that resemble a search row")

    def sets(self) -> dict[str, Rows]:
        """All prompt sets that are not null, by use: `search`, `report`, `more_report.NAME` and so on.

        A use is the set's key in the config, so that of an attack's templates is `attacks.NAME.templates`.
        """
        single = {use: getattr(self, use) for use in SINGLE_SETS}
        found = {use: rows for use, rows in single.items() if rows}
        found |= {f"more_report.{name}": rows for name, rows in self.more_report.items()}
        found |= {f"more_harmless.{name}": rows for name, rows in self.more_harmless.items()}
        return found | {f"attacks.{name}.templates": of.templates for name, of in self.attacks.items() if of.templates}

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        taken = set(SINGLE_SETS)
        taken |= {step for name, metric in METRICS for step in (name, *metric.titles)}  # their files share the folder
        for name in (*self.more_report, *self.more_harmless, *self.attacks):
            refuse_strange(name)
            if name in taken or re.fullmatch(r"turn\d+", name):
                raise ValueError(f"'{name}': another prompt set or a metric has this name; choose another")
            taken.add(name)
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        a = self.search
        for b in (self.report, *self.more_report.values()):
            same = (a.source, a.subset, a.split, a.where) == (b.source, b.subset, b.split, b.where)
            if same and a.rows[0] < b.rows[1] and b.rows[0] < a.rows[1]:
                raise ValueError(
                    f"search rows {list(a.rows)} and report rows {list(b.rows)} of {a.source} overlap:"
                    " a set found on rows that the report counts would flatter itself"
                )
        return self
