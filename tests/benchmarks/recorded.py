"""Oracles of real models: the miniature pairs, every query of theirs kept in the user's cache.

The first benchmark asks the models, later ones read what they said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dapa_exp.base.digests import cache_root
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.make import load_student
from dapa_exp.engine.plain import PlainEngine, Request
from dapa_exp.judges import make_judge
from dapa_exp.models.load import load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.prompts.rows import load_rows
from dapa_exp.record.folder import RunFolder, open_run
from dapa_exp.search import Test, Unit
from dapa_exp.search.evidence import Evidence, compute_prior
from dapa_exp.search.oracle import Bar, Oracle
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find

QUICK = ("dataset.search.rows=[0,48]", "search.max_new_tokens=12")


@dataclass(frozen=True)
class Recorded:
    """The test of a real pair, and what attribution says of its units."""

    units: tuple[Unit, ...]
    test: Test
    prior: dict[Unit, float]
    bar: Bar
    verdicts: Callable[[frozenset[Unit]], Mapping[str, str]]
    """The verdict on each row of a set that was asked."""


@contextmanager
def recorded(pair: str, granularity: str, *overrides: str) -> Iterator[Recorded]:
    """The oracle of a miniature pair, which is trained first where the cache does not hold it."""
    torch.set_num_threads(1)
    (job,) = jobs([f"pair={pair}", f"granularity={granularity}", *QUICK, *overrides])
    config = job.config
    names = [config.family.teacher.zoo_name, config.pair.student.zoo_name]
    build([find(name).name for name in names if name], silent)
    folder = cache_root() / "oracles" / job.folder.name
    with open_run(folder, config) as run:
        yield _recorded(run, config, open_pair(config))


def _recorded(run: RunFolder, config: Config, pair: Pair) -> Recorded:
    prompts = load_rows(config.dataset.search)
    request = Request(tuple(prompts), config.search.max_new_tokens)
    teacher = PlainEngine(load_model(pair.teacher_folder, config.runtime), config.runtime.batch_size)
    teacher_answers = CompletionStore(run, "teacher").complete(teacher, "teacher", request)
    engine = load_student(config, pair)
    student_answers = CompletionStore(run, "student").complete(engine, "student", request)
    hybrid = Hybrid(engine.loaded.model, pair)
    oracle = Oracle(run, hybrid, engine, make_judge(config.judge), prompts)
    evidence = Evidence(
        pair,
        hybrid,
        engine.loaded,
        prompts,
        [answer.text for answer in teacher_answers],
        [answer.text for answer in student_answers],
        config.runtime.batch_size,
        config.localise,
        seed=0,
    )
    return Recorded(
        tuple(pair.units),
        oracle.ask,
        compute_prior("attribution", evidence).scores,
        oracle.bar,
        lambda units: run.files.read_queries()[oracle.line(units)]["verdicts"],
    )
