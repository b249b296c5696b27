"""The worker process that builds models. It imports torch once, then builds one model after another."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from safetensors import SafetensorError

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.fetch.store import fetched_folder
from dapa_exp.zoo import store
from dapa_exp.zoo.recipe import AnyRecipe, Enlarged, Recipe, find
from dapa_exp.zoo.smollm2 import Refusing, Shadow, Shipped


@dataclass(frozen=True)
class Done:
    """The message that a model is built, or was built already."""

    name: str


@dataclass(frozen=True)
class Failed:
    """The message that a model could not be built."""

    name: str
    reason: str


def work(pipe: Connection) -> None:
    """Build the models whose names arrive through the pipe, until it closes.

    For each model, sends Progress messages, then Done or Failed.
    """
    # Ctrl-C reaches parent and children. Only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _prepare()
        while True:
            name = pipe.recv()
            try:
                _build(name, pipe.send)
            except DapaError as error:
                pipe.send(Failed(name, str(error)))
            except (OSError, RuntimeError, ValueError, SafetensorError) as error:  # SafetensorError: a full disk
                pipe.send(Failed(name, f"{type(error).__name__}: {error}"))
            else:
                pipe.send(Done(name))
    except (EOFError, BrokenPipeError):
        return


def _prepare() -> None:
    """Import the heavy libraries. Limit torch to deterministic algorithms."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)


def _build(name: str, report: Report) -> None:
    """Build one model under its lock, unless another process has built it meanwhile."""
    recipe = find(name)
    report(Progress(name, 0, recipe.steps))
    with store.lock(name):
        if not store.is_built(name):
            _make(recipe, report)
    report(Progress(name, recipe.steps, recipe.steps))


def _make(recipe: AnyRecipe, report: Report) -> None:
    """Make one model and store it."""
    import torch

    from dapa_exp.zoo import miniature, shipped, tuned
    from dapa_exp.zoo.built_model import BuiltModel
    from dapa_exp.zoo.enlarge import Enlargement

    def step(done: int, note: str) -> None:
        report(Progress(recipe.name, done, recipe.steps, note))

    # Threads do not help a miniature. A model of real size takes two on every machine, however many cores there are.
    torch.set_num_threads(2 if isinstance(recipe, Refusing | Shadow) else 1)
    started, spent = time.monotonic(), time.process_time()
    made: BuiltModel | Enlargement
    match recipe:
        case Recipe():
            made = miniature.make(recipe, store.path(recipe.parent) if recipe.parent else None, step)
        case Shipped():
            made = shipped.unpack(recipe, fetched_folder(recipe.gguf))
        case Refusing() | Shadow():
            made = tuned.tune(recipe, store.path(recipe.parent), store.path(recipe.elder), step)
        case Enlarged():
            made = Enlargement(recipe.parent, recipe.shape)
    known = {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - spent, 2),
        "quality": made.quality,
    }
    store.write(recipe.name, known, made.save)
