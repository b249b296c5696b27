"""A process that builds models: it imports torch once and then makes one after another."""

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
from dapa_exp.zoo.smollm2 import Refusing, Shipped


@dataclass(frozen=True)
class Done:
    """A model is built, or was found built."""

    name: str


@dataclass(frozen=True)
class Failed:
    """A model could not be built."""

    name: str
    reason: str


def work(pipe: Connection) -> None:
    """Build the models whose names come through the pipe, until it closes.

    Sends Progress while at a model, then Done or Failed.
    """
    # Ctrl-C reaches parent and children alike; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _prepare()
        while True:
            name = pipe.recv()
            try:
                _build(name, pipe.send)
            except DapaError as error:
                pipe.send(Failed(name, str(error)))
            except (OSError, RuntimeError, ValueError, SafetensorError) as error:  # the last: a full disk
                pipe.send(Failed(name, f"{type(error).__name__}: {error}"))
            else:
                pipe.send(Done(name))
    except (EOFError, BrokenPipeError):
        return


def _prepare() -> None:
    """Load the heavy libraries, and keep this process to one thread and the same result every time."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _build(name: str, report: Report) -> None:
    """Build one model, unless it is built by the time its lock is had."""
    recipe = find(name)
    report(Progress(name, 0, recipe.steps))
    with store.lock(name):
        if not store.is_built(name):
            _make(recipe, report)
    report(Progress(name, recipe.steps, recipe.steps))


def _make(recipe: AnyRecipe, report: Report) -> None:
    """Make one model and store it."""
    from dapa_exp.zoo import miniature, refusing
    from dapa_exp.zoo.enlarge import Enlargement
    from dapa_exp.zoo.made import Made

    def step(done: int, note: str) -> None:
        report(Progress(recipe.name, done, recipe.steps, note))

    started, spent = time.monotonic(), time.process_time()
    made: Made | Enlargement
    match recipe:
        case Recipe():
            made = miniature.make(recipe, store.path(recipe.parent) if recipe.parent else None, step)
        case Shipped():
            made = refusing.unpack(recipe, fetched_folder(recipe.gguf))
        case Refusing():
            made = refusing.teach(recipe, store.path(recipe.parent), step)
        case Enlarged():
            made = Enlargement(recipe.parent, recipe.shape)
    known = {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - spent, 2),
        "quality": made.quality,
    }
    store.write(recipe.name, known, made.save)
