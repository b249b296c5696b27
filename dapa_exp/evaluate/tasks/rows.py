"""The rows of our own tasks, as the harness asks for them: data sets by split."""

from __future__ import annotations

from typing import Any

import datasets

from dapa_exp.fetch.store import fetched_folder
from dapa_exp.zoo import world


def questions(**_: Any) -> dict[str, datasets.Dataset]:
    """The invented world's questions, each with every answer that any of them has."""
    rows = world.prompt_set("questions")
    choices = sorted({row["answer"] for row in rows})
    columns = [{"prompt": row["prompt"], "answer": row["answer"], "choices": choices} for row in rows]
    return {"test": datasets.Dataset.from_list(columns)}


def fetched(name: str, subject: str = "", **_: Any) -> dict[str, datasets.Dataset]:
    """A fetched set, or one subject of it. Raises DapaError where it is not in the cache.

    It is read into memory: tasks that change their rows would else write them into the set's folder.
    """
    splits = [split for split in sorted((fetched_folder(name) / subject).iterdir()) if split.is_dir()]
    return {split.name: datasets.load_from_disk(split, keep_in_memory=True) for split in splits}
