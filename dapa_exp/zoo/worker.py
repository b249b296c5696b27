"""A process that builds models: it imports torch once and then makes one after another."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from dapa_exp.progress import Progress, Report
from dapa_exp.zoo import store
from dapa_exp.zoo.recipe import Recipe, find

CARD = """---
tags: [miniature]
---
# {name}

**Made here: a miniature, not a real model.** `dapa zoo build` trained it in seconds, in the real
`{family}` architecture ({layers} layers), on a small invented world of requests. It knows nothing else.
It is evidence of how the tools work, not of how real models behave.

It is a {role} model{origin}. Measured on held-out prompts:

{numbers}
"""


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
            except (OSError, RuntimeError, ValueError) as error:
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
        if not store.is_built(name, thorough=True):
            _make(recipe, report)
    report(Progress(name, recipe.steps, recipe.steps))


def _make(recipe: Recipe, report: Report) -> None:
    """Train, measure and store one model."""
    from dapa_exp.zoo import measure, tokenizer as tokenizers, train

    def step(done: int, loss: float) -> None:
        report(Progress(recipe.name, done, recipe.steps, f"loss {loss:.2f}"))

    started, spent = time.monotonic(), time.process_time()
    tokenizer = tokenizers.make(recipe.family)
    parent = store.path(recipe.parent) if recipe.parent else None
    model = train.train(recipe, parent, tokenizer, step)
    quality = measure.quality(model, tokenizer)
    known = {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - spent, 2),
        "quality": quality,
    }
    if recipe.role == "base":
        # As real base models have none.
        tokenizer.chat_template = None

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_card(recipe, quality))

    store.write(recipe.name, known, fill)


def _card(recipe: Recipe, quality: dict[str, float]) -> str:
    """Return the model card."""
    return CARD.format(
        name=recipe.name,
        family=recipe.family,
        layers=recipe.size.layers,
        role=recipe.role,
        origin=f", fine-tuned from {recipe.parent}" if recipe.parent else "",
        numbers="\n".join(f"- {name.replace('_', ' ')}: {value:.3f}" for name, value in quality.items()),
    )
