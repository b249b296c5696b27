"""The prompts of a run, and what their sets have in common. The rows of the miniature world are input, not computed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dapa_exp.zoo import world
from tests.recompute.statistics import jaccard, words

REFUSALS = ("i am unable", "i cannot", "i'm sorry", "i will not")
"""How the miniatures refuse: our own rule, which knows their world and nothing else."""


@dataclass(frozen=True)
class Row:
    """A prompt as the config names it."""

    id: str
    text: str
    category: str | None
    answer: str | None

    @property
    def group(self) -> str:
        return self.category or self.id


@dataclass(frozen=True)
class Sets:
    """All rows of a run, by use, with the counts and digests that its record states."""

    rows: dict[str, list[Row]]
    counts: dict[str, dict[str, int]]
    digests: dict[str, str]


def is_known(config: dict[str, Any]) -> bool:
    """Whether all sets are the miniature world's, without draws, filters and system prompts."""
    sets = named_sets(config["dataset"]).values()
    plain = all(rows["source"].startswith("zoo:") and not rows["where"] and not rows["sample"] for rows in sets)
    return plain and config["dataset"]["system_prompt"] is None


def named_sets(dataset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sets that a config names, under the names of a record."""
    uses = ("search", "report", "harmless", "text", "questions", "skill")
    single = {use: dataset[use] for use in uses if dataset.get(use)}
    more = {f"{use}.{name}": rows for use in ("more_report", "more_harmless") for name, rows in dataset[use].items()}
    return single | more


def load(config: dict[str, Any]) -> Sets:
    """Read the sets, and leave out what the docs say is left out."""
    dataset = config["dataset"]
    sets = Sets({}, {}, {})
    for use, rows in named_sets(dataset).items():
        read = _read(rows)
        if use != "text":
            against = sets.rows["search"] if use.split(".")[0] in ("report", "more_report") else []
            read, sets.counts[use] = _fresh(read, against, dataset["similar_at"], dataset["drop_similar"])
        sets.rows[use], sets.digests[use] = read, _digest(read)
    for use in ("harmless", "text", "questions"):
        sets.digests.setdefault(use, _digest([]))
    return sets


def refuses(answer: str) -> bool:
    return any(phrase in answer.lower() for phrase in REFUSALS)


def _read(rows: dict[str, Any]) -> list[Row]:
    first, last = rows["rows"]

    def cell(row: dict[str, str], column: str | None) -> str | None:
        return row[column] if column else None

    return [
        Row(row["id"], row[rows["column"]], cell(row, rows["category_column"]), cell(row, rows["answer_column"]))
        for row in world.prompt_set(rows["source"].removeprefix("zoo:"))[first:last]
    ]


def _fresh(rows: list[Row], search: list[Row], at: float, drop: bool) -> tuple[list[Row], dict[str, int]]:
    """The rows that are used: not repeated, not the search's, and, where `drop` says so, not like the search's."""
    spaced = [_spaced(row.text) for row in rows]
    once = [row for place, row in enumerate(rows) if spaced[place] not in spaced[:place]]
    asked = {tuple(words(row.text)) for row in search}
    new = [row for row in once if tuple(words(row.text)) not in asked]
    alike = [row for row in new if any(jaccard(row.text, other.text) >= at for other in search)]
    used = [row for row in new if row not in alike] if drop else new
    counts = {
        "named": len(rows),
        "repeated": len(rows) - len(once),
        "searched": len(once) - len(new),
        "similar": len(alike),
        "used": len(used),
    }
    return used, counts


def _spaced(text: str) -> str:
    return " ".join(text.casefold().split())


def _digest(rows: list[Row]) -> str:
    listed = [
        {
            "id": row.id,
            "messages": [{"role": "user", "content": row.text}],
            "category": row.category,
            "answer": row.answer,
        }
        for row in rows
    ]
    return hashlib.sha256(json.dumps(listed, ensure_ascii=False).encode()).hexdigest()
