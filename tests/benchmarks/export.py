"""Export of a model of a few GB: wall time against `cp`, peak memory against an idle interpreter, mergekit beside it.

    python -m tests.benchmarks.export [--layers 18] [--repeats 3] [--mergekit PYTHON] [--json FILE]

A pair with random weights in shards of about 500 MB is made in a temporary folder, and taken away again. Every step
runs in a process of its own. Seconds are those of the step, imports apart; memory is the peak resident set over that
of an interpreter that has only imported torch. What `cp` copies is what the step writes, from a process like the
step's, and it is flushed to the disk, as the step's output is. The two take turns: the pace of a shared machine changes
by the minute. PYTHON is an interpreter with mergekit; without one it is installed into an environment of its own, which
downloads some GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from transformers import LlamaConfig

from dapa_exp.base.digests import folder_digest
from dapa_exp.cli.compose import jobs
from dapa_exp.models.pair import open_pair
from dapa_exp.models.tensors import TensorReader, tensor_digest
from dapa_exp.record.folder import open_run
from dapa_exp.record.identity import identity
from dapa_exp.record.schema import TransplantRecord
from dapa_exp.transplant.export.export import apply, export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.plan import plan_transplant
from tests.analysis import factory
from tests.benchmarks.targets import Target, conclude, target
from tests.tiny import model_at


@dataclass(frozen=True)
class Size:
    """The shape of the two random models."""

    layers: int
    hidden: int = 2048
    inner: int = 5632
    heads: int = 16
    vocabulary: int = 32000

    @property
    def layer(self) -> dict[str, tuple[int, ...]]:
        """The tensors of a layer."""
        return {
            **{f"self_attn.{name}_proj": (self.hidden, self.hidden) for name in "qkvo"},
            **{f"mlp.{name}_proj": (self.inner, self.hidden) for name in ("gate", "up")},
            "mlp.down_proj": (self.hidden, self.inner),
            **{f"{name}_layernorm": (self.hidden,) for name in ("input", "post_attention")},
        }


SMOKE = Size(3, hidden=64, inner=128, heads=4, vocabulary=256)
LAYERS_A_SHARD = 5
MEMORY_BOUND_GB = 1.0
TIME_BOUND = 1.3
OUTPUTS = {
    "checkpoint": "checkpoint",
    "patch": "patch.safetensors",
    "apply": "applied",
    "mergekit recipe": "recipe.yaml",
}
IDLE = """
import torch
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9)
"""
MERGE = """
import json, sys, time, torch, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
torch.set_num_threads(1)
recipe = MergeConfiguration.model_validate(yaml.safe_load(open(sys.argv[1])))
started = time.monotonic()
run_merge(recipe, sys.argv[2], MergeOptions(quiet=True, copy_tokenizer=False))
seconds = time.monotonic() - started
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
print(json.dumps({"seconds": seconds, "peak_gb": peak}))
"""
Row = dict[str, Any]
Step = Callable[[str, Path, bool], Row]
"""Carries out a step by its name in a folder, or copies what it wrote there first."""


def main() -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=18, help="about 0.1 GB a model each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mergekit", help="an interpreter with mergekit")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny models, each step once, no mergekit: does it run?")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--copy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step_here(arguments.step, arguments.scratch, arguments.copy)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        if arguments.smoke:
            rows = measure(Path(scratch), SMOKE, 1, step_here)
        else:
            rows = measure(Path(scratch), Size(arguments.layers), arguments.repeats, step_apart)
            rows.append({"step": "mergekit", **run_mergekit(Path(scratch), arguments.mergekit)})
    show(rows)
    conclude(rows, make_targets(rows), arguments.json)


def measure(scratch: Path, size: Size, repeats: int, step: Step) -> list[Row]:
    """All rows, one a step."""
    os.environ |= {"DAPA_CACHE": str(scratch / "cache"), "OMP_NUM_THREADS": "1"}
    for seed, role in enumerate(("teacher", "student")):
        make_checkpoint(scratch / role, size, seed)
    idle = idle_gb(sys.executable)
    rows = [{"step": "transplant", **step("transplant", scratch, False)}]
    rows += [{"step": name, **beside_cp(name, scratch, scratch / out, repeats, step)} for name, out in OUTPUTS.items()]
    for row in rows:
        row["over_idle_gb"] = row["peak_gb"] - idle
    return rows


def make_checkpoint(folder: Path, size: Size, seed: int) -> None:
    """A llama with random bfloat16 weights, in shards, written without a model in memory."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"{name}.weight": (size.vocabulary, size.hidden) for name in ("model.embed_tokens", "lm_head")}
    shards: list[dict[str, tuple[int, ...]]] = [shapes | {"model.norm.weight": (size.hidden,)}]
    for layer in range(size.layers):
        if layer % LAYERS_A_SHARD == 0:
            shards.append({})
        shards[-1] |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in size.layer.items()}
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        tensors = {
            name: torch.empty(shape, dtype=torch.bfloat16).uniform_(-0.05, 0.05, generator=generator)
            for name, shape in shard.items()
        }
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    total = sum(file.stat().st_size for file in folder.iterdir())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    ).save_pretrained(folder)


def beside_cp(name: str, scratch: Path, out: Path, repeats: int, step: Step) -> Row:
    """A step and a copy of what it writes, the one first and then the other, from the same state; the medians."""
    first = step(name, scratch, False)
    written = out.rename(first_of(out))
    rows: dict[bool, list[Row]] = {False: [], True: []}
    for i in range(repeats):
        for copy in (i % 2 == 0, i % 2 == 1):
            remove(out)
            os.sync()
            rows[copy].append(step(name, scratch, copy))
    remove(written)
    return {
        "seconds": median(row["seconds"] for row in rows[False]),
        "cp_seconds": median(row["seconds"] for row in rows[True]),
        "peak_gb": max(row["peak_gb"] for row in [first, *rows[False]]),
        "gb": sum(file.stat().st_size for file in [out, *out.rglob("*")] if file.is_file()) / 1e9,
    }


def first_of(out: Path) -> Path:
    """Where the first output of a step stays, for `cp` to copy."""
    return out.with_name(f"first_{out.name}")


def step_apart(name: str, scratch: Path, copy: bool) -> Row:
    """Run one step, or the copy of what it wrote first, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.export", "--step", name, "--scratch", str(scratch)]
    command += ["--copy"] if copy else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: Row = json.loads(done.stdout.splitlines()[-1])
    return result


def step_here(name: str, scratch: Path, copy: bool) -> Row:
    """The same in this process, which spares the seconds of importing torch, and says nothing about memory."""
    out = scratch / OUTPUTS.get(name, "")
    return copy_step(out) if copy else STEPS[name](scratch, out)


def timed(work: Callable[[], object]) -> Row:
    """How long some work takes, and the highest resident set of this process, in GB."""
    torch.set_num_threads(1)
    started = time.monotonic()
    work()
    return {"seconds": time.monotonic() - started, "peak_gb": peak_gb()}


def peak_gb() -> float:
    """Of this program; rusage would count what its parent held before."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def idle_gb(python: str) -> float:
    """The resident set of an interpreter that has imported torch and nothing else."""
    return float(subprocess.run([python, "-c", IDLE], check=True, stdout=subprocess.PIPE, text=True).stdout)


def transplant_step(scratch: Path, out: Path) -> Row:
    """Plan a transplant, compute its tensors one by one, and leave a finished run, its numbers planted."""
    models = [f"family.teacher.id={scratch / 'teacher'}", f"pair.student.id={scratch / 'student'}"]
    config = jobs([*models, "family.model_type=llama", "runtime.dtype=bfloat16"])[0].config
    digests = [folder_digest(scratch / role) for role in ("teacher", "student")]  # a run takes them for its record

    def work() -> None:
        pair = open_pair(config)
        third = max(1, pair.num_layers // 3)  # about what searches find: 3.5 of 10 MLPs on the miniatures
        chosen = list(pair.units)[third : 2 * third]
        plan = plan_transplant(chosen, pair.units, pair.teacher, pair.student)
        tensors = HybridTensors(pair, chosen)
        proof = {name: tensor_digest(tensors.read(name)) for name in sorted(tensors.changed)}
        with open_run(scratch / "run", config) as run:
            (run.path / "transplant.json").write_text(json.dumps({"transplanted": proof, "untouched": 0}))
            planted = factory.record(units_found=chosen, identity=identity(config))
            models = {
                role: getattr(planted.pair, role).model_copy(update={"digest": digest})
                for role, digest in zip(("teacher", "student"), digests, strict=True)
            }
            moved = TransplantRecord(
                method="copy",
                tensors=len(plan.tensors),
                parameters=plan.parameters,
                parameters_total=plan.parameters_total,
                percent=plan.percent,
                bytes=plan.bytes,
                digest=hashlib.sha256(json.dumps(proof, sort_keys=True).encode()).hexdigest(),
                largest=0.05,
                largest_student=0.05,
            )
            pair_record = planted.pair.model_copy(update=models)
            run.finish(planted.model_copy(update={"transplant": moved, "pair": pair_record}))

    return timed(work)


def export_step(kind: str) -> Callable[[Path, Path], Row]:
    """A step that exports the finished run."""

    def step(scratch: Path, out: Path) -> Row:
        open_finished(scratch / "run")  # imports what a config names
        return timed(lambda: export(open_finished(scratch / "run"), out, kind))

    return step


def copy_step(out: Path) -> Row:
    """`cp`, then a flush of the copies to the disk, as every step flushes what it writes."""

    def work() -> None:
        subprocess.run(["cp", "-r", first_of(out), out], check=True)
        subprocess.run(["sync", *(file for file in [out, *out.rglob("*")] if file.is_file())], check=True)

    return timed(work)


def apply_step(scratch: Path, out: Path) -> Row:
    return timed(lambda: apply(scratch / OUTPUTS["patch"], model_at(scratch / "student"), out))


STEPS: dict[str, Callable[[Path, Path], Row]] = {
    "transplant": transplant_step,
    "checkpoint": export_step("checkpoint"),
    "patch": export_step("patch"),
    "apply": apply_step,
    "mergekit recipe": export_step("mergekit"),
}


def run_mergekit(scratch: Path, python: str | None) -> Row:
    """mergekit on our recipe: time, memory, and how many tensors are ours bit for bit."""
    try:
        python = python or install_mergekit(scratch / "environment")
        command = [python, "-c", MERGE, str(scratch / OUTPUTS["mergekit recipe"]), str(scratch / "merged")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        return {"failed": f"{error}: {error.stderr[-500:]}"}
    row: Row = json.loads(said.splitlines()[-1])
    ours, theirs = TensorReader(scratch / OUTPUTS["checkpoint"]), TensorReader(scratch / "merged")
    same = sum(
        name in theirs.tensors and tensor_digest(ours.read(name)) == tensor_digest(theirs.read(name)) for name in ours
    )
    return {**row, "over_idle_gb": row["peak_gb"] - idle_gb(python), "tensors": len(ours.tensors), "same": same}


def install_mergekit(environment: Path) -> str:
    python = str(environment / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True, text=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "mergekit"], check=True, capture_output=True, text=True)
    return python


def make_targets(rows: list[Row]) -> list[Target]:
    """Memory of every step, time against `cp` of those that write tensors, and agreement with mergekit."""
    by_step = {row["step"]: row for row in rows}
    targets = [
        target(f"{name}: peak memory over idle torch, GB", by_step[name]["over_idle_gb"], MEMORY_BOUND_GB)
        for name in STEPS
    ]
    for name in ("checkpoint", "patch", "apply"):
        ratio = by_step[name]["seconds"] / by_step[name]["cp_seconds"]
        targets.append(target(f"{name}: seconds over cp of the same bytes", ratio, TIME_BOUND))
    merged = by_step.get("mergekit", {})
    if "same" in merged:
        share = merged["same"] / merged["tensors"]
        targets.append(target("mergekit: share of tensors equal bit for bit", share, 1.0, "higher"))
    return targets


def show(rows: list[Row]) -> None:
    """Print the table, and what could not be measured."""
    table = Table("step", "GB", "s", "cp, s", "peak over idle, GB", "tensors equal", title="export")
    for row in rows:
        numbers = [f"{row[key]:.2f}" if key in row else "" for key in ("gb", "seconds", "cp_seconds", "over_idle_gb")]
        table.add_row(row["step"], *numbers, f"{row['same']} of {row['tensors']}" if "same" in row else "")
    console = Console(width=110)
    console.print(table)
    for row in rows:
        if "failed" in row:
            console.print(f"{row['step']}: not measured: {row['failed']}")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
