"""What a search costs: the released code's way, the plain engine, the fast one, and each of its levers switched off.

    python -m tests.benchmarks.engine [--best ALGORITHM] [--pairs NAME,NAME] [--search NAME] [--repeat N] [--json FILE]
        [--smoke] [OVERRIDE ...]
    python -m tests.benchmarks.engine --best "auto, attribution" granularity=projection
    python -m tests.benchmarks.engine --real smollm2 dataset=smollm2 dataset.search.sample=16

By default all miniature pairs; `--real` measures one pair of `conf/pair` in their place. Overrides are those of a run,
and hold for every search. Each search runs in a process of its own, all of them from the same state: an interpreter
that has imported everything. With `--repeat` all searches of a pair are made so often, in turn, and the one with the
median time counts. Seconds are those of the search stage (the bar, the prior, all queries and the
certificate, with transplanting, judging and writing), loading the model apart. On a machine that others use too, go by
the CPU seconds of the process, which computes on one thread. Memory is the peak resident set over that of the process
before it loaded a model.

The released code loads both models anew for every prompt and generates 350 tokens; it has no search. What ddmin would
cost that way is extrapolated from a few prompts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.engine.make import load_student
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.evaluate.defence import defence_rate
from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.judges import DEFENDED, make_judge
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import open_pair
from dapa_exp.prompts.rows import load_rows
from dapa_exp.record.folder import open_run
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.unit_search import search_units
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.make_method import make_method
from dapa_exp.zoo.build import build
from tests.benchmarks.targets import Target, conclude, target

ALGORITHMS = {
    "ddmin": ("search=ddmin",),
    "auto": ("search=auto",),
    "auto, attribution": ("search=auto", "search.prior=attribution"),
}
LEVERS = {
    "without reuse": "runtime.reuse_memory=0",
    "without drafts": "runtime.drafts=false",
    "without early verdicts": "runtime.early_verdicts=false",
    "with whole queries": "search.stop_when_decided=false",
}
BASELINE, RELEASED = "plain ddmin", "released code"
TITLE = "mean a search; tokens and passes through layers in thousands"
RELEASED_TOKENS, RELEASED_PROMPTS = 350, 2
MINIATURE_BOUND, REAL_BOUND = 10.0, 6.0
WORK = ("prompt", "draft", "decoded", "layers", "layers_spared")
COLUMNS = ("queries", "prompts", *WORK, "near_ties", "over_idle_gb")
SMOKE_PAIR, SMOKE_ROWS = "mini-llama-small-style", ["dataset.search.rows=[0,12]", "search.max_new_tokens=8"]
Row = dict[str, Any]
Overrides = tuple[str, ...]


def main() -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", help="some of the miniature pairs")
    parser.add_argument("--real", help="a pair with a model of some size, in place of the miniatures")
    parser.add_argument("--best", choices=ALGORITHMS, default="auto", help="what to compare with ddmin")
    parser.add_argument("--search", action="append", help="besides the two compared; default: all")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="two searches of one pair on few rows: does it run?")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.pairs, arguments.search = SMOKE_PAIR, []
        arguments.overrides += SMOKE_ROWS
    names = [arguments.real] if arguments.real else miniatures(arguments.pairs)
    best, known = f"fast {arguments.best}", searches_with(arguments.best)
    if unknown := set(arguments.search or ()) - set(known):
        parser.error(f"no such search: {', '.join(sorted(unknown))}; there are: {'; '.join(known)}")
    chosen = {
        name: known[name]
        for name in dict.fromkeys([BASELINE, best, *(known if arguments.search is None else arguments.search)])
    }
    rows = [row for name in names for row in measure(name, chosen, arguments.repeat, arguments.overrides)]
    targets = make_targets(rows, best, REAL_BOUND if arguments.real else MINIATURE_BOUND)
    show(rows)
    conclude(rows, targets, arguments.json)


def searches_with(best: str) -> dict[str, Overrides]:
    """All searches by name: each algorithm with each engine, and the best of them with each lever switched off."""
    searches: dict[str, Overrides] = {
        f"{engine} {name}": (f"runtime.engine={engine}", *algorithm)
        for name, algorithm in ALGORITHMS.items()
        for engine in ("plain", "fast")
    }
    off = {f"fast {best} {lever}": (*searches[f"fast {best}"], switch) for lever, switch in LEVERS.items()}
    return searches | off


def miniatures(chosen: str | None) -> list[str]:
    """The pairs of the miniature experiment."""
    if chosen:
        return chosen.split(",")
    return [job.config.pair.name for job in jobs(["-m", "+experiment=miniature"])]


def measure(pair: str, searches: Mapping[str, Overrides], repeat: int, common: Sequence[str]) -> list[Row]:
    """All rows of a pair; `common` overrides are every search's."""
    config = composed(pair, *common)
    models = [config.family.teacher.zoo_name, config.pair.student.zoo_name]
    build([name for name in models if name], silent)
    answers = apart(lambda: teacher_answers(config))
    turns = [
        [apart(partial(run_search, pair, answers, [*common, *own])) for own in searches.values()] for _ in range(repeat)
    ]
    rows: list[Row] = []
    for name, times in zip(searches, zip(*turns, strict=True), strict=True):
        median = sorted(times, key=itemgetter("cpu_seconds"))[len(times) // 2]
        rows.append({"pair": pair, "search": name, **median})
        print(f"{pair}: {name}: {median['seconds']:.2f} s, {median['queries']} queries", flush=True)
    released = apart(lambda: released_way(config))
    queries = next(row["queries"] for row in rows if row["search"] == BASELINE)
    prompts = len(load_rows(config.dataset.search))
    return [*rows, {"pair": pair, "search": RELEASED, "seconds": released * queries * prompts, "each": released}]


def composed(pair: str, *overrides: str) -> Config:
    (job,) = jobs([f"pair={pair}", *overrides])
    return job.config


def apart(work: Callable[[], Any]) -> Any:
    """What some work returns, done in a child process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def send() -> None:
        torch.set_num_threads(1)
        sender.send(work())

    child = context.Process(target=send)
    child.start()
    sender.close()
    result = receiver.recv()
    child.join()
    return result


def teacher_answers(config: Config) -> list[str]:
    """What the teacher says to the search prompts; every run measures it before the search."""
    pair = open_pair(config)
    return whole_answers(load_model(pair.teacher_folder, config.runtime), config)


def whole_answers(loaded: LoadedModel, config: Config) -> list[str]:
    """What the plain engine has a model say to the search prompts."""
    engine, prompts = PlainEngine(loaded, config.runtime.batch_size), load_rows(config.dataset.search)
    batches = [[prompts[i] for i in batch] for batch in engine.batches(len(prompts))]
    return [answer.text for batch in batches for answer in engine.generate_batch(batch, config.search.max_new_tokens)]


def run_search(name: str, answers: list[str], overrides: Sequence[str]) -> Row:
    """One search of a pair, in a run's folder that is thrown away."""
    config = composed(name, *overrides)
    idle = resident_gb("VmRSS")
    with tempfile.TemporaryDirectory() as scratch, open_run(Path(scratch) / "run", config) as run:
        pair = open_pair(config)
        prompts, judge = load_rows(config.dataset.search), make_judge(config.judge)
        dsr = defence_rate(judge.verdicts([prompt.text for prompt in prompts], answers)).value
        teacher = Teacher(None, answers, dsr)  # type: ignore[arg-type]  # a search needs no report on it
        engine = load_student(config, pair)
        hybrid = Hybrid(engine.loaded.model, pair, make_method(config.transplant, pair))
        oracle = Oracle(run, hybrid, engine, judge, prompts)
        PlainEngine(engine.loaded, 1).generate_batch(prompts[:1], 2)  # the first pass pays for what torch sets up
        started, busy = time.monotonic(), time.process_time()
        found = search_units(run, pair, teacher, oracle, silent)
        seconds, busy = time.monotonic() - started, time.process_time() - busy
        peak = resident_gb("VmHWM")
        lines = [json.loads(line) for line in (run.path / "search.jsonl").read_text().splitlines()]
        hybrid.set_units(found.units_found)
        texts = whole_answers(engine.loaded, config)
        verdicts = judge.verdicts([prompt.text for prompt in prompts], texts)
        assert found.ledger.work is not None
        return {
            "seconds": seconds,
            "cpu_seconds": busy,
            "queries": found.ledger.queries,
            "prompts": found.ledger.prompts,
            **found.ledger.work.model_dump(),
            "over_idle_gb": peak - idle,
            "status": found.status,
            "units": found.units_found,
            "found_dsr": found.found_dsr,
            "found_dsr_plain": sum(verdict in DEFENDED for verdict in verdicts) / len(verdicts),
            "trace": [[sorted(line["units"]), line["score"]] for line in lines],
        }


def released_way(config: Config) -> float:
    """Seconds a prompt: both models loaded, one answer of 350 tokens."""
    pair = open_pair(config)
    prompts = load_rows(config.dataset.search)[:RELEASED_PROMPTS]
    template = pair.teacher_folder if config.pair.chat_template == "teacher" else None
    started = time.monotonic()
    for prompt in prompts:
        load_model(pair.teacher_folder, config.runtime)
        student = load_model(pair.student_folder, config.runtime, template)
        PlainEngine(student, 1).generate_batch([prompt], RELEASED_TOKENS)
    return (time.monotonic() - started) / len(prompts)


def resident_gb(what: str) -> float:
    """Of this process: VmRSS is its resident set now, VmHWM the highest so far."""
    return int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0]) * 1024 / 1e9


def make_targets(rows: list[Row], best: str, bound: float) -> list[Target]:
    """Speed, and that it changes nothing."""
    by_name = {(row["pair"], row["search"]): row for row in rows}
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    searched = [row for row in rows if row["search"] != RELEASED]
    traces = [
        row["trace"] == by_name[row["pair"], counterpart(row["search"])]["trace"]
        for row in searched
        if row["search"].startswith("fast") and (row["pair"], counterpart(row["search"])) in by_name
    ]

    def speedup(of: str) -> float:
        return fmean(by_name[pair, BASELINE][of] / by_name[pair, best][of] for pair in pairs)

    figures = {
        f"{BASELINE} over {best}: seconds, mean": (speedup("seconds"), bound),
        f"{BASELINE} over {best}: CPU seconds, mean": (speedup("cpu_seconds"), bound),
        "share of searches certified": (fmean(row["status"] == "certified" for row in searched), 1.0),
        "share of found sets with the same DSR by the plain engine": (
            fmean(row["found_dsr"] == row["found_dsr_plain"] for row in searched),
            1.0,
        ),
    }
    if traces:
        figures["share of fast searches with the plain one's queries and scores"] = fmean(traces), 1.0
    return [target(name, measured, least, "higher") for name, (measured, least) in figures.items()]


def counterpart(search: str) -> str:
    """The search that the plain engine makes in place of a fast one's."""
    return search.split(" without ")[0].replace("fast", "plain")


def show(rows: list[Row]) -> None:
    """Print the means over all pairs."""
    table = Table("search", "s", "speed-up", "CPU s", "speed-up", *COLUMNS, title=TITLE)
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    baseline = {row["pair"]: row for row in rows if row["search"] == BASELINE}
    for search in dict.fromkeys(row["search"] for row in rows):
        found = [row for row in rows if row["search"] == search]
        cells = []
        for of in ("seconds", "cpu_seconds"):
            if of in found[0]:
                ratio = fmean(baseline[row["pair"]][of] / row[of] for row in found)
                cells += [f"{fmean(row[of] for row in found):.2f}", f"{ratio:.3g}"]
        cells += [shown(column, fmean(row[column] for row in found)) for column in COLUMNS if column in found[0]]
        table.add_row(search, *cells)
    console = Console(width=150)
    console.print(table)
    each = fmean(row["each"] for row in rows if "each" in row)
    console.print(
        f"{len(pairs)} pairs. released code: extrapolated from {RELEASED_PROMPTS} prompts a pair, {each:.2f} s each"
    )


def shown(column: str, value: float) -> str:
    """A mean, in the unit that the table's title says."""
    if column in WORK:
        return f"{value / 1000:.1f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    main()
