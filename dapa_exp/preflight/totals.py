"""What the runs of a sweep need together, beside what this machine has. Models that runs share are counted once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from dapa_exp.base.digests import cache_root
from dapa_exp.config.schema import Config, Model
from dapa_exp.models.source import source_of
from dapa_exp.preflight.estimate import Needs, ShapeOf
from dapa_exp.preflight.facts import Shape


@dataclass(frozen=True)
class Disk:
    """A place that a sweep writes to, and how much of it."""

    what: str
    folder: Path
    needed: int
    free: int
    device: int
    """The number of the disk: two places may lie on one."""


@dataclass(frozen=True)
class Totals:
    """What some runs need together."""

    runs: int
    queries: int
    memory: int
    """Bytes of the largest runs, as many as are under way at a time."""
    processes: int
    on_cpu: bool
    disks: tuple[Disk, ...]
    unknown: tuple[str, ...]
    """Models whose shape, and searches whose queries, nobody knows; the sums are without them."""


def totals(configs: Sequence[Config], runs: Sequence[Needs], shape_of: ShapeOf) -> Totals:
    """The sums over the runs of a sweep, and this machine's free disks. There is at least one run."""
    runtime, record = configs[0].runtime, configs[0].record
    models = list(dict.fromkeys(model for config in configs for model in models_of(config)))
    shapes = {model: shape_of(model) for model in models}
    downloads = [download(model, shape) for model, shape in shapes.items()]
    built = sum(_to_build(model, shape) for model, shape in shapes.items())
    largest = sorted((run.memory or 0 for run in runs), reverse=True)
    return Totals(
        runs=len(runs),
        queries=sum(run.queries.count for run in runs if run.queries),
        memory=sum(largest[: runtime.processes]),
        processes=min(runtime.processes, len(runs)),
        on_cpu=runtime.device == "cpu",
        disks=(
            _disk("models to download", Path(constants.HF_HUB_CACHE), sum(filter(None, downloads))),
            _disk("files of the runs", Path(record.dir), sum(run.files or 0 for run in runs)),
            *([_disk("models to enlarge", cache_root(), built)] if built else []),
        ),
        unknown=(*(model.id for model, shape in shapes.items() if shape is None), *_unmeasured(configs, runs)),
    )


def disk_of(config: Config, run: Needs, shape_of: ShapeOf) -> int | None:
    """Bytes that one run by itself needs: of its models what is not here yet, and its files."""
    shapes = {model: shape_of(model) for model in models_of(config)}
    sizes = [run.files, *(download(model, shape) for model, shape in shapes.items())]
    sizes += [_to_build(model, shape) for model, shape in shapes.items()]
    return None if None in sizes else sum(filter(None, sizes))


def cells(config: Config, run: Needs, shape_of: ShapeOf) -> tuple[str, str, str, str]:
    """Units, queries, memory and disk of a run, as a table shows them; `~` before what rests on an assumed shape."""
    about = "~" if run.assumed else ""
    sizes = (shown(run.memory), shown(disk_of(config, run, shape_of)))
    units, asked = ("unknown" if value is None else str(value) for value in (run.units, run.queries))
    memory, disk = (size if size == "unknown" else about + size for size in sizes)
    return units, asked, memory, disk


def models_of(config: Config) -> tuple[Model, ...]:
    """Every model that a run reads: teacher, student and, where the transplant has one, the base."""
    base = getattr(config.transplant, "base", None)
    return (config.family.teacher, config.pair.student, *([base] if base else []))


def download(model: Model, shape: Shape | None) -> int | None:
    """Bytes of a model's weights that the hub's cache lacks; None where its shape is not known."""
    if not source_of(model).remote:
        return 0
    return max(0, shape.checkpoint_bytes - _cached(model)) if shape else None


def _to_build(model: Model, shape: Shape | None) -> int:
    """Bytes of a model that the zoo has yet to make, where it is one of real size."""
    return shape.checkpoint_bytes if shape and source_of(model).to_build else 0


def shortages(totals: Totals) -> list[str]:
    """What this machine has too little of, in sentences."""
    found = []
    if totals.on_cpu and totals.memory > (free := free_memory()):
        found.append(f"memory: about {shown(totals.memory)} are needed, and {shown(free)} are free")
    for device in dict.fromkeys(disk.device for disk in totals.disks):
        on_it = [disk for disk in totals.disks if disk.device == device]
        if (needed := sum(disk.needed for disk in on_it)) > on_it[0].free:
            folders = " and ".join(dict.fromkeys(str(disk.folder) for disk in on_it if disk.needed))
            found.append(f"disk: about {shown(needed)} are needed in {folders}, and {shown(on_it[0].free)} are free")
    return found


def summary(totals: Totals) -> list[str]:
    """The same in lines for a person, under a table of the runs."""
    runs = "1 run" if totals.runs == 1 else f"{totals.runs} runs"
    free = f" (free here: {shown(free_memory())})" if totals.on_cpu else ""
    lines = [
        f"{runs}: about {totals.queries:,} queries; memory about {shown(totals.memory)}{free},"
        f" {totals.processes} at a time",
        *(
            f"{disk.what}: about {shown(disk.needed)}; {shown(disk.free)} free in {disk.folder}"
            for disk in totals.disks
            if disk.needed
        ),
    ]
    if totals.unknown:
        lines.append(f"not counted, since nothing is known of them yet: {', '.join(totals.unknown)}")
    return lines


def shown(count: int | None) -> str:
    """Bytes as a person reads them, in GB of a thousand million."""
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def free_memory() -> int:
    """Bytes that this machine can give to new processes without swapping."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _unmeasured(configs: Sequence[Config], runs: Sequence[Needs]) -> Iterator[str]:
    """Searches that nobody knows the queries of."""
    pairs = zip(configs, runs, strict=False)
    names = {config.search.algorithm for config, run in pairs if run.units is not None and run.queries is None}
    return (f"search={name}" for name in sorted(names))


def _disk(what: str, folder: Path, needed: int) -> Disk:
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    return Disk(what, folder, needed, shutil.disk_usage(there).free, there.stat().st_dev)


def _cached(model: Model) -> int:
    """Bytes that the hub's cache holds of a model, whatever their revision."""
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model.id, repo_type="model") / "blobs"
    return sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0
