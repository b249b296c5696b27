"""Refuses prompts whose answers would outgrow a model's context, before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Config
from dapa_exp.engine.plain import token_count
from dapa_exp.models.checkpoint import read_config
from dapa_exp.models.load import load_tokenizer
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt


class Asked(NamedTuple):
    """The rows of a prompt set, and how many tokens their answers may have, with the key that sets it."""

    rows: Sequence[Prompt]
    key: str
    answer: int


def check_context(config: Config, pair: Pair, asked: Mapping[str, Asked]) -> None:
    """Raise DapaError if a prompt and its longest answer exceed the context of the teacher or the student."""
    template = pair.teacher_folder if pair.chat_template == "teacher" else None
    problems = [
        *_problems(config.family.teacher.id, pair.teacher_folder, None, config.pair.thinking, asked),
        *_problems(config.pair.student.id, pair.student_folder, template, config.pair.thinking, asked),
    ]
    if problems:
        raise DapaError("\n".join(problems))


def _problems(
    name: str, folder: Path, template: Path | None, thinking: bool | None, asked: Mapping[str, Asked]
) -> list[str]:
    tokenizer, _ = load_tokenizer(folder, template, thinking)
    most: int = read_config(folder)["max_position_embeddings"]
    found = []
    for use, (rows, key, answer) in asked.items():
        lengths = {row.id: token_count(tokenizer, row) for row in rows}
        if too_long := [row for row, length in lengths.items() if length + answer > most]:
            row = max(too_long, key=lengths.__getitem__)
            found.append(
                f"{name}: {use}: {len(too_long)} of {len(rows)} prompts leave no room for an answer of {key}={answer}"
                f" tokens: the longest, {row}, has {lengths[row]}, and the model reads {most}"
                " (max_position_embeddings); leave such rows out, or ask for shorter answers"
            )
    return found
