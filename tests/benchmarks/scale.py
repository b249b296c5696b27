"""Real sizes on a CPU: enlarging, a run of 1.1 billion parameters against its plan, and answers of report length.

    python -m tests.benchmarks.scale [--stages NAME,NAME] [--json FILE]
    python -m tests.benchmarks.scale --smoke --json FILE      # a tiny shape, in half a minute

- enlarge: a miniature is written in the shape, by a process of its own; memory is its peak over that before.
- run: `dapa run` of the enlarged pair in bfloat16, on few rows, beside what `dapa plan` says of it: memory at the peak,
  the most that the run's folder held at a time, and queries. The known set is what the miniature's search finds, in the
  layers that these become.
- answers: the report's rows in one batch, by `plain`, `fast`, and `vllm` where it is installed, in float32, with a
  limit of 256 tokens. A miniature's answers are short, so their own end does not count: other tokens end them. Where
  rows end late, it is one token, which comes up early in some rows and late or never in others. Where they end early,
  there are several, so that a row has at most 40 % of the limit in the mean, and once more at most 25 %: about what an
  aligned model needs that refuses most of what it is asked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dapa_exp.base.memory import peak_memory_bytes
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.engine.vllm import VllmEngine
from dapa_exp.models.architecture import layer_of
from dapa_exp.models.load import load_model
from dapa_exp.models.source import source_of
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import shape_of
from dapa_exp.prompts.load import load_prompts
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from dapa_exp.zoo.enlarge import enlarge, layer_places
from tests.benchmarks.gpu_loaded import ending_at

Row = dict[str, Any]
STAGES = ("enlarge", "run", "answers")
ENDINGS = {"late": 1.0, "early": 0.4, "refusals": 0.25}
"""The most tokens of a row in the mean, as a share of the limit."""
TEACHER, STUDENT = "llama-small-chat", "llama-small-style"
MB, GB = 1e6, 1e9


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    shape: str = "tinyllama-1.1b"
    answering: str = (
        "num_hidden_layers=12,hidden_size=768,intermediate_size=2048,num_attention_heads=12,num_key_value_heads=4,"
        "head_dim=64"
    )
    """The shape whose answers are timed: 0.09 billion parameters."""
    rows: int = 64
    tokens: int = 256
    threads: int = 1


TINY = "num_hidden_layers=11,hidden_size=128,head_dim=32"
SMOKE = Settings(shape=TINY, answering=TINY, rows=8, tokens=24)
BOUNDED = (
    "dataset.search.sample=16",
    "dataset.report.sample=16",
    "dataset.harmless.sample=8",
    "dataset.questions.sample=8",
    "dataset.text.sample=4",
    "evaluate.divergence_rows=4",
    "evaluate.random_repeats=1",
    "runtime.batch_size=16",
)
"""What keeps a run short."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args(argv)
    settings, stages = SMOKE if arguments.smoke else Settings(), arguments.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    build([TEACHER, STUDENT], silent)
    measures = {"enlarge": measure_enlarging, "run": measure_run, "answers": measure_answers}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for stage in stages:
            rows.append({"stage": stage, **measures[stage](settings, Path(work))})
            print(" ".join(f"{key}={_short(value)}" for key, value in rows[-1].items()), flush=True)
    targets = [target for row in rows for target in make_targets(row)]
    show(targets)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "targets": targets}, indent=1))


def measure_enlarging(settings: Settings, work: Path) -> Row:
    """Seconds and memory of writing one model."""
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        over, seconds = pool.apply(enlarge_alone, (settings.shape, work / "enlarged"))
    written = sum(file.stat().st_size for file in (work / "enlarged").iterdir())
    return {
        "seconds": seconds,
        "with_start_seconds": time.monotonic() - started,
        "written_gb": written / GB,
        "memory_over_idle_gb": over / GB,
    }


def enlarge_alone(shape: str, out: Path) -> tuple[int, float]:
    """Bytes that the process holds more at its peak, and seconds."""
    before, started = peak_memory_bytes(), time.monotonic()
    enlarge(TEACHER, shape, out)
    return peak_memory_bytes() - before, time.monotonic() - started


def measure_run(settings: Settings, work: Path) -> Row:
    """A whole run in a process of its own, what the plan says of it, and whether it found the known set."""
    models = {"family.teacher.id": TEACHER, "pair.student.id": STUDENT}
    words = [
        "pair=mini-llama-small-style",
        "pair.name=enlarged",
        *(f'{key}="zoo:{name}@{settings.shape}"' for key, name in models.items()),
        "runtime.dtype=bfloat16",
        f"runtime.threads={settings.threads}",
        *BOUNDED,
        f"record.dir={work}",
    ]
    build([f"{name}@{settings.shape}" for name in models.values()], silent)
    (job,) = jobs(words)
    planned = needs(job.config, shape_of)
    assert planned.memory
    assert planned.files
    assert planned.queries
    started = time.monotonic()
    held = watch_run(words, job.folder)
    record = json.loads((job.folder / "record.json").read_text())
    parameters = record["transplant"]["parameters_total"]
    return {
        "seconds": time.monotonic() - started,
        "parameters": parameters,
        "peak_gb": max(stage["peak_memory_bytes"] for stage in record["cost"].values()) / GB,
        "allowed_gb": 2 * parameters / GB + 1 + job.config.runtime.reuse_memory,
        "plan_gb": planned.memory / GB,
        "held_mb": held / MB,
        "plan_held_mb": planned.files / MB,
        "queries": record["search"]["ledger"]["queries"],
        "plan_queries": planned.queries.count,
        "status": record["search"]["status"],
        "units": record["search"]["units_found"],
        "known": find_known(record["pair"]["num_layers"], work),
    }


def watch_run(words: Sequence[str], folder: Path) -> int:
    """Carry out a run; the most bytes that its folder held at a time."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dapa_exp", "run", *words], env=environment, stdout=subprocess.DEVNULL
    )
    held = 0
    while process.poll() is None:
        held = max(held, folder_bytes(folder))
        time.sleep(0.05)
    assert process.returncode == 0, f"dapa run {' '.join(words)}: failed"
    return held


def folder_bytes(folder: Path) -> int:
    """Of all files that are there but the report, which a plan does not count; some may go meanwhile."""
    sizes = 0
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "report"]
        for name in names:
            file = Path(root, name)
            sizes += file.stat().st_size if file.exists() else 0
    return sizes


def find_known(layers: int, work: Path) -> list[str]:
    """What the search of the miniatures finds on the same rows, as units of the enlarged model."""
    (job,) = jobs(["pair=mini-llama-small-style", *BOUNDED, "evaluate.metrics=[]", f"record.dir={work / 'known'}"])
    record = run(job.config, work / "known", silent)
    live = layer_places(record.pair.num_layers, layers)
    return [f"layers.{live[layer_of(unit)]}.mlp" for unit in record.search.units_found]


def measure_answers(settings: Settings, work: Path) -> Row:
    """Tokens a second of the same answers, by each engine."""
    enlarge(STUDENT, settings.answering, work / "answering", "float32")
    (job,) = jobs(["pair=mini-llama-small-style", f"pair.student.id={work / 'answering'}"])
    torch.set_num_threads(settings.threads)
    loaded = load_model(source_of(job.config.pair.student).locate(True, silent), job.config.runtime)
    sets = load_prompts(job.config.dataset)
    prompts = [*sets.report, *sets.harmless][: settings.rows]
    plain = PlainEngine(loaded, len(prompts))
    with ending_at(plain, frozenset()):
        endless = plain._generate(prompts, settings.tokens)
    engines = {"plain": plain}
    if find_spec("vllm"):
        runtime = job.config.runtime.model_copy(update={"engine": "vllm", "batch_size": len(prompts)})
        engines["vllm"] = VllmEngine(loaded, runtime)
        engines["vllm"].generate_batch(prompts[:1], 1)  # it starts
    row: Row = {"rows": len(prompts), "limit": settings.tokens, "answers_differ": 0}
    for ending, share in ENDINGS.items():
        ends, lengths = choose_ends(endless, share * settings.tokens)
        row |= {f"{ending}_{name}": of(lengths) for name, of in (("mean", mean), ("shortest", min), ("longest", max))}
        texts, speed = {}, {}
        engines["fast"] = FastEngine(loaded, len(prompts), reuse_bytes=0)  # a new one: it has no drafts yet
        for name, engine in engines.items():
            with ending_at(engine, ends):
                started = time.process_time()
                answers = engine.generate_batch(prompts, settings.tokens)
                seconds = time.process_time() - started
            speed[name] = sum(answer.tokens for answer in answers) / seconds
            row[f"{ending}_{name}_tokens_a_cpu_second"] = speed[name]
            texts[name] = [answer.text for answer in answers]
        for name in engines.keys() - {"plain"}:
            row[f"{ending}_{name}_ratio"] = speed[name] / speed["plain"]
            row["answers_differ"] += sum(a != b for a, b in zip(texts["plain"], texts[name], strict=True))
    return row


def choose_ends(answers: Sequence[Sequence[int]], longest_mean: float) -> tuple[frozenset[int], list[int]]:
    """Tokens that end the answers at very different lengths, of this mean at most if they can, and these lengths.

    One token after the other is taken: the one that leaves the lengths the most different. The row with the fewest
    different tokens never ends, so that the limit counts.
    """
    ends: frozenset[int] = frozenset()
    kept = min((set(row) for row in answers), key=len)

    def lengths(ends: frozenset[int]) -> list[int]:
        return [next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in answers]

    while not ends or mean(lengths(ends)) > longest_mean:
        if not (left := {token for row in answers for token in row} - ends - kept):
            break
        ends |= {max(sorted(left), key=lambda token: pstdev(lengths(ends | {token})))}
    return ends, lengths(ends)


def make_targets(row: Row) -> list[Row]:
    """What must hold of a stage."""

    def target(name: str, measured: float, bound: float, better: str) -> Row:
        return {"name": f"{row['stage']}: {name}", "measured": round(measured, 4), "bound": bound, "better": better}

    match row["stage"]:
        case "enlarge":
            share = row["memory_over_idle_gb"] / row["written_gb"]
            return [target("memory over idle, of what is written", share, 0.4, "lower")]
        case "run":
            return [
                target("certified", float(row["status"] == "certified"), 1.0, "higher"),
                target("the known set found", float(row["units"] == row["known"]), 1.0, "higher"),
                target("peak memory, of model + 1 GB + reuse_memory", row["peak_gb"] / row["allowed_gb"], 1.0, "lower"),
                target("plan's memory, share off", abs(row["plan_gb"] / row["peak_gb"] - 1), 0.15, "lower"),
                target("plan's disk, share off", abs(row["plan_held_mb"] / row["held_mb"] - 1), 0.15, "lower"),
                target("plan's queries, share off", abs(row["plan_queries"] / row["queries"] - 1), 0.5, "lower"),
            ]
        case _:
            bounds = {"late": 1.0, "early": 2.0, "refusals": 2.0}
            return [
                *(
                    target(
                        f"fast over plain, tokens a second, rows of {100 * row[f'{ending}_mean'] / row['limit']:.0f} %",
                        row[f"{ending}_fast_ratio"],
                        bound,
                        "higher",
                    )
                    for ending, bound in bounds.items()
                ),
                target("answers that differ", row["answers_differ"], 0.0, "lower"),
            ]


def show(targets: Sequence[Row]) -> None:
    """Print the targets."""
    table = Table("target", "measured", "bound", "better", title="targets")
    for target in targets:
        table.add_row(target["name"], str(target["measured"]), str(target["bound"]), target["better"])
    Console(width=120).print(table)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
