"""`dapa align`: a model and its teacher in, the aligned model out. A front of `dapa run`: same runs, same records."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from analysis.report import report
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import remove
from dapa_exp.base.progress import display
from dapa_exp.cli.align_words import MODEL, PATCH, account, found_sentence, kept_measures, needs_lines, why_nothing
from dapa_exp.cli.compose import compose
from dapa_exp.cli.launch import launch
from dapa_exp.cli.pair_list import quoted
from dapa_exp.config.models import Model, model_id
from dapa_exp.config.registries import ALGORITHMS, METHODS
from dapa_exp.config.schema import Config
from dapa_exp.models.card import base_in_card
from dapa_exp.models.pair import open_pair, unit_parameters
from dapa_exp.preflight.estimate import measured_tokens, needs, random_tokens
from dapa_exp.preflight.facts import Shape
from dapa_exp.preflight.findings import find_problems, look, pair_notes, row_notes
from dapa_exp.preflight.speed import operations_a_second
from dapa_exp.preflight.totals import format_bytes, shortages, totals
from dapa_exp.prompts.files import is_table, read_table
from dapa_exp.record.layout import RunLayout, SweepLayout
from dapa_exp.record.schema import Record, SearchRecord
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import make_room, prepare
from dapa_exp.transplant.export.export import export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.export.manifest import exported_identity
from dapa_exp.zoo.recipe import is_miniature

LEVELS = ("layer", "module", "part")
"""Granularities of the searches, coarse to fine. Each search stays within the units that the one before it found."""
NEARLY_ALL = 0.95
"""A search that keeps more of the parameters than this has dropped nothing that is worth a finer search."""
RUNS = "runs"
"""The folder of the runs in the output folder."""
ITS_OWN = {
    "granularity": "the granularities are " + ", ".join(LEVELS) + ", coarse to fine; dapa run takes one of its own",
    "pair.student.id": "the first argument is the student",
    "family.teacher.id": "--teacher names the teacher",
    "record.dir": "--out names the folder",
    "record.experiment": "the records lie in the folder runs of --out",
    "record.until": "it goes on until the model is exported",
    "search.within": "each search stays within the set that the one before it found",
    "search.max_seconds": "--time limits the searches",
}
"""What the overrides of `dapa align` cannot set, and what does."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Level:
    """The search of one granularity: the words of its run, the run's folder, and the set with its parameters."""

    words: list[str]
    folder: Path
    found: SearchRecord
    parameters: int


def align_command(words: list[str]) -> int:
    """Carry out `dapa align`. The exit code is 0 if a model was exported."""
    asked = parsed(words)
    _refuse_its_own(asked.overrides)
    common = [*run_words(asked), *_base_words(asked)]
    (first,) = compose([*common, f"granularity={LEVELS[0]}"]).jobs
    if not RunLayout(first.folder).is_run() and not _is_agreed(first, asked):
        return 1
    levels = _search(common)
    chosen = chosen_level([level.found for level in levels])
    if chosen is None:
        print(f"\nnothing is exported: {why_nothing(levels[-1].found)}")
        return 1
    folder = levels[chosen].folder
    launch(compose(levels[chosen].words))  # goes on from its search: it measures
    record = RunLayout(folder).read_record()
    written = report([asked.out / RUNS], Console(quiet=True), [folder])
    page = next((path for path in written if path.suffix == ".html"), SweepLayout(asked.out / RUNS).report)
    lost = [kept for kept in kept_measures(record, asked.keep) if kept.is_lost(asked.tolerance)]
    if not lost:
        _export(folder, record, asked.out)
    print(account(record, folder, asked.out, asked.keep, asked.tolerance, page))
    return 1 if lost else 0


def _refuse_its_own(overrides: Sequence[str]) -> None:
    """Raise DapaError where overrides set what the command sets itself: they would be ignored, or lose its results."""
    keys = [re.split("[=@]", word.lstrip("+~"))[0] for word in overrides]
    if wrong := [f"  {key}: {ITS_OWN[key]}" for key in keys if key in ITS_OWN]:
        raise DapaError("\n".join(["dapa align sets these keys itself:", *wrong]))


def run_words(asked: argparse.Namespace) -> list[str]:
    """The overrides that all of its runs share. The user's own come last, so they count."""
    words = ["+experiment=align", f"pair.student.id={quoted(asked.student)}"]
    words += [f"family.teacher.id={quoted(asked.teacher)}", f"record.dir={quoted(asked.out)}"]
    words += [f"search.max_seconds={asked.time / len(LEVELS):g}"]
    if is_miniature(asked.student):
        words += ["dataset=miniature", "runtime.threads=1"]  # so small a model gains nothing from threads
    tasks = [task for task in asked.keep if not is_table(Path(task))]
    words += [f"evaluate.tasks.names=[{','.join(tasks)}]"] if tasks else []
    words += [_questions(Path(task)) for task in asked.keep if is_table(Path(task))]
    return [*words, *asked.overrides]


def _questions(file: Path) -> str:
    """The override that makes a file of questions those of the run."""
    keys = {"source": quoted(file), "column": "prompt", "answer_column": "answer", "split": "train", "sample_seed": 0}
    unset = dict.fromkeys(("revision", "subset", "category_column", "sample"), "null")
    rows = f"[0,{len(read_table(file).rows)}]"
    inner = ",".join(f"{key}:{value}" for key, value in {**keys, **unset, "where": "{}", "rows": rows}.items())
    return f"dataset.questions={{{inner}}}"


def _base_words(asked: argparse.Namespace) -> list[str]:
    """The override that names the base model, by the teacher's card. Empty if it is not needed, or named already."""
    said = dict(word.split("=", 1) for word in asked.overrides if "=" in word)
    method = said.get("transplant", "")
    if method not in METHODS or "base" not in METHODS.get(method).Settings.model_fields or "transplant.base" in said:
        return []
    with display() as progress:
        base = base_in_card(Model(id=asked.teacher, revision=said.get("family.teacher.revision")), progress)
    if base is None:
        print(f"note: no card of {asked.teacher} names one model that it was tuned from; transplant.base=ID does")
        return []
    print(f"base     {base}: the card of {asked.teacher} says so")
    return [f"transplant.base={quoted(base)}"]


def chosen_level(searches: Sequence[SearchRecord]) -> int | None:
    """The place of the search whose set is exported: the finest that is certified, else the first where it passed."""
    certified = [place for place, search in enumerate(searches) if search.status == "certified"]
    if certified:
        return certified[-1]
    return 0 if searches[0].status == "not_certified" and searches[0].passed else None


def _search(common: Sequence[str]) -> list[Level]:
    """Search on each level, within what the one before it found. Only one level is measured, later.

    The last one is the first that is not certified, or that drops nothing.
    """
    done: list[Level] = []
    for name in LEVELS:
        within = [f"search.within={quoted(done[-1].folder)}"] if done else []
        words = [*common, f"granularity={name}", *within]
        composed = compose([*words, "record.until=search"])
        make_room(composed.jobs)
        prepare(composed.jobs)
        launch(composed)
        (job,) = composed.jobs
        found = RunLayout(job.folder).read_search()
        sizes = unit_parameters(open_pair(job.config))
        done.append(Level(words, job.folder, found, sum(sizes[unit] for unit in found.units_found)))
        print(found_sentence(found), flush=True)
        if found.status != "certified":
            break
        if name != LEVELS[-1] and drops_nothing([level.parameters for level in done]):
            print(f"no finer search follows: these {name}s are nearly all that the search before found")
            break
    return done


def drops_nothing(parameters: Sequence[int]) -> bool:
    """Whether the last search kept nearly all parameters of the one before it. A finer one would hardly drop more."""
    return len(parameters) > 1 and parameters[-1] > NEARLY_ALL * parameters[-2]


def _is_agreed(job: Job, asked: argparse.Namespace) -> bool:
    """Print what it will take; whether to go on. Raises DapaError with all that stands in the way."""
    config = job.config
    if ALGORITHMS.get(config.search.algorithm).control:
        raise DapaError(f"search={config.search.algorithm}: a control names its sets in advance; dapa align searches")
    with display() as progress:
        findings = look([config], progress)
    notes, wrong = row_notes([config], findings)
    if problems := [*find_problems([config], findings), *wrong]:
        raise DapaError("\n".join(["nothing was started:", *(f"  {problem}" for problem in dict.fromkeys(problems))]))
    wanted = needs(config, findings.shape_of)
    shape = findings.shape_of(config.pair.student)
    minutes = measuring_minutes(config, shape) if shape else None
    print("\n".join(needs_lines(config, wanted, shape, asked.out, asked.time, minutes)))
    print("".join(f"note: {note}\n" for note in (*pair_notes([config], findings), *notes)), end="")
    short = shortages(totals([config], [wanted], findings.shape_of))
    free = shutil.disk_usage(next(place for place in asked.out.absolute().parents if place.exists())).free
    if shape and 2 * shape.checkpoint_bytes > free:
        short += [
            f"disk: model and patch may take {format_bytes(2 * shape.checkpoint_bytes)}, {format_bytes(free)} free"
        ]
    print("".join(f"too little {one}\n" for one in short), end="", flush=True)
    if asked.yes:
        return True
    if sys.stdin.isatty():
        return input("Go on? [y/n] ").strip().lower() in ("y", "yes")
    if short:
        raise DapaError("nothing was started; --yes starts it all the same")
    return True


def measuring_minutes(config: Config, shape: Shape) -> float:
    """About how long the models' measuring takes, by 2 · parameters operations a token.

    Student, teacher and the hybrid that is exported are measured, and the random sets of the latter.
    """
    tokens = 3 * measured_tokens(config) + random_tokens(config)
    return tokens * 2 * shape.parameters / operations_a_second(config.runtime) / 60


def _export(folder: Path, record: Record, out: Path) -> None:
    """Write model and patch, in place of those of an earlier run. Raises DapaError where other files are in the way."""
    model, patch = out / MODEL, out / PATCH
    found = exported_identity(model)
    if model.exists() and found is None:
        raise DapaError(f"{model}: is there already, and no exported model; name another --out")
    if found != record.identity:
        for old in (model, patch):
            remove(old)
    finished = open_finished(folder)
    for place, kind in ((patch, "patch"), (model, "checkpoint")):  # the model last: it says that both are there
        if not place.exists():
            export(finished, place, kind)


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The words of `dapa align`, by option."""
    parser = argparse.ArgumentParser(
        "dapa align",
        description="Searches for a minimal part of the teacher that makes the student refuse harmful requests, puts it"
        " into the student, measures the result and exports it. Interrupt it whenever you like: the same command goes"
        " on.",
    )
    parser.add_argument("student", help="the model to align: its hub id, its folder, or a .gguf file")
    parser.add_argument("--teacher", required=True, help="an aligned model of the same architecture")
    parser.add_argument("--out", type=Path, help="the folder to write; default: aligned/STUDENT")
    parser.add_argument("--time", type=_seconds, default="10m", help="for the searches together: 90s, 30m, 2h (10m)")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="TASK",
        help="a task of lm-evaluation-harness, or"
        " a file of questions (.csv or .jsonl with the columns prompt and answer), that must not get worse",
    )
    parser.add_argument("--tolerance", type=float, default=2.0, help="by how many points a kept task may fall (2)")
    parser.add_argument("--yes", action="store_true", help="do not ask whether to go on")
    parser.add_argument("overrides", nargs="*", help="any override of `dapa run`, such as runtime.batch_size=8")
    asked = parser.parse_intermixed_args(words)
    asked.student, asked.teacher = model_id(asked.student), model_id(asked.teacher)
    asked.out = asked.out or Path("aligned") / re.sub(r"[^\w.-]+", "-", Path(asked.student).name)
    return asked


def _seconds(said: str) -> float:
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", said)):
        raise argparse.ArgumentTypeError(f"{said!r}: a time such as 90s, 30m or 2h is wanted")
    return float(match[1]) * _SECONDS[match[2]]
