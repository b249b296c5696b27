"""Measures the stages of the GPU benchmark: seconds, memory, and what the forward passes had to read and compute."""

from __future__ import annotations

import functools
import gc
import json
import os
import platform
import shutil
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers

from dapa_exp.record.folder import RunFolder

Row = dict[str, Any]
_COUNTED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Parameters of models, which are not kept in memory for it."""
GB = 1e9


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


@contextmanager
def watching(bench: Bench, ceilings: Mapping[str, float]) -> Iterator[None]:
    """Count every forward pass of a language model, and keep apart the stages of a run."""
    classes: list[Any] = [transformers.LlamaForCausalLM, transformers.GemmaForCausalLM, transformers.MistralForCausalLM]
    usual = {kind: kind.forward for kind in classes}
    run_folder: Any = RunFolder
    measured = run_folder.run_stage

    def watched(forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)  # generate looks at the signature
        def counting(model: Any, *args: Any, **kwargs: Any) -> Any:
            ids = kwargs["input_ids"] if "input_ids" in kwargs else (args[0] if args else None)
            if ids is not None and not (ids.is_cuda and torch.cuda.is_current_stream_capturing()):
                _count(bench.meters[bench.at], model, ids, kwargs.get("past_key_values"), ceilings)
            return forward(model, *args, **kwargs)

        return counting

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


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
