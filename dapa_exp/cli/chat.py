"""`dapa chat RUN`: talk to a finished run's student and to its hybrid, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from dapa_exp.engine.make import load_student
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.prompts.prompt import Message, Prompt
from dapa_exp.transplant.export.finished import FinishedRun, open_finished
from dapa_exp.transplant.hybrid import Hybrid


def chat_command(words: list[str]) -> int:
    """Carry out `dapa chat RUN [--say TEXT] [--max-new-tokens N]`."""
    parser = argparse.ArgumentParser(
        "dapa chat", description="Each line that you type is answered by the student, and by the student aligned."
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "--say", action="append", help="say this and end, instead of asking; may be given several times"
    )
    parser.add_argument("--max-new-tokens", type=int, default=256, help="length of an answer at most (256)")
    asked = parser.parse_args(words)
    finished = open_finished(asked.run)
    try:
        for name, answer in converse(finished, asked.say or _typed(), asked.max_new_tokens):
            print(f"{name}: {answer}", flush=True)
    except KeyboardInterrupt:
        print()  # the usual way to end a conversation
    return 0


def converse(finished: FinishedRun, said: Iterable[str], max_new_tokens: int) -> Iterator[tuple[str, str]]:
    """The answers of student and hybrid to each text, with the model's name. Each knows its own conversation only."""
    config = finished.config
    engine = PlainEngine(load_student(config, finished.pair).loaded, 1)
    hybrid = Hybrid(engine.loaded.model, finished.pair, finished.method)
    units = {"student": (), "aligned": tuple(finished.record.search.units_found)}
    system = config.dataset.system_prompt
    turns = {name: [] if system is None else [Message("system", system)] for name in units}
    for text in said:
        for name, chosen in units.items():
            hybrid.set_units(chosen)
            turns[name].append(Message("user", text))
            (answer,) = engine.generate_batch([Prompt("chat", tuple(turns[name]))], max_new_tokens)
            turns[name].append(Message("assistant", answer.text))
            yield name, answer.text


def _typed() -> Iterator[str]:
    """The lines that the user types, until an empty one or the end."""
    while True:
        try:
            text = input("you: ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text
