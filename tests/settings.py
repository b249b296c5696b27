"""Configs of runs that take a second or two."""

from __future__ import annotations

from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config

QUICK = (
    "search=ddmin",
    "dataset.search.rows=[0,16]",
    "dataset.report.rows=[96,112]",
    "dataset.harmless.rows=[0,8]",
    "evaluate.metrics=[]",
    "evaluate.random_repeats=1",
)
"""Overrides of a run on few prompts."""


def quick(*words: str) -> tuple[str, ...]:
    """The words of a quick `dapa run` or, with "-m" first, of a quick sweep."""
    flags = [word for word in words if word == "-m"]
    return ("run", *flags, *QUICK, *(word for word in words if word not in flags))


def quick_config(*words: str) -> Config:
    """The config of `dapa run` with the quick overrides and others."""
    (job,) = jobs([*QUICK, *words])
    return job.config
