"""Composes the judge of a command's words `judge=NAME judge.KEY=VALUE …`, as `dapa run` does."""

from __future__ import annotations

from collections.abc import Sequence

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.judges.contract import Judge as Judging

CONFIG_DIR = ("--config-dir", "-cd")


def judge_config(verb: str, words: Sequence[str]) -> JudgeSettings:
    """The judge's config that the words compose. Raises DapaError if a word is about anything else."""
    given = iter(words)
    for word in given:
        if word in CONFIG_DIR:
            next(given, None)  # the folder
        elif not word.startswith(("judge=", "judge.", *(f"{flag}=" for flag in CONFIG_DIR))):
            raise DapaError(f"dapa {verb}: '{word}': only the judge can be chosen here: judge=NAME judge.KEY=VALUE")
    if not any(word.startswith("judge=") for word in words):
        raise DapaError(f"dapa {verb} needs a judge, such as judge=phrases")
    (job,) = jobs([*words, "evaluate.metrics=[]"])  # nothing is measured here that the judge would have to see
    return job.config.judge


def cost(judge: Judging) -> str:
    """The tokens that a judge's chat model has used, in words; an empty string for other judges."""
    tokens: dict[str, int] | None = getattr(judge, "tokens", None)
    if tokens is None:
        return ""
    return (
        f"{tokens['prompt']:,} tokens sent, {tokens['completion']:,} received; earlier replies are not asked for again"
    )
