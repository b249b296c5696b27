"""Configs of runs that take a second or two, the shipped options, and what is said of wrong words."""

from __future__ import annotations

import pytest

from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.problems import ConfigError
from dapa_exp.config.schema import Config

PAIRS = sorted(p.stem for p in (conf_dir() / "pair").glob("[!_]*.yaml") if p.stem != "own")
OPTIONS = [
    f"{group}={file.stem}"
    for group in ("granularity", "dataset", "search", "transplant", "judge", "evaluate", "record", "runtime")
    for file in sorted((conf_dir() / group).glob("[!_]*.yaml"))
]

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


def problems(*words: str) -> list[str]:
    """What is wrong with the words of a command line."""
    with pytest.raises(ConfigError) as caught:
        jobs(words)
    return caught.value.problems
