"""The total needs of a sweep, compared with this machine. A model that several runs use is counted once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from dapa_exp.base.digests import cache_root
from dapa_exp.base.memory import free_memory
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config
from dapa_exp.models.source import source_of
from dapa_exp.preflight.estimate import RunNeeds, ShapeOf
from dapa_exp.preflight.facts import Shape
from dapa_exp.record.identity import evaluations


@dataclass(frozen=True)
class Disk:
    """A folder that a sweep writes to, the bytes it needs there, and the bytes free."""

    what: str
    folder: Path
    needed: int
    free: int
    device: int
    """The device number of the folder's disk. Two folders may be on one disk."""


@dataclass(frozen=True)
class Totals:
    """The total needs of several runs."""

    runs: int
    queries: int
    evaluations: int
    """How many models are evaluated: each teacher and student once, where runs share what they measure."""
    memory: int
    """Bytes that the `processes` largest runs take together, since that many run at the same time. `auto`: one's."""
    processes: int
    on_cpu: bool
    disks: tuple[Disk, ...]
    unknown: tuple[str, ...]
    """Models of unknown shape and searches of unknown cost. The sums leave them out."""


def totals(
    configs: Sequence[Config], runs: Sequence[RunNeeds], shape_of: ShapeOf, done: Sequence[Config] = ()
) -> Totals:
    """The sums over at least one run, and the free space on this machine's disks.

    What the runs of `done` have evaluated is not evaluated again.
    """
    runtime, record = configs[0].runtime, configs[0].record
    models = list(dict.fromkeys(model for config in configs for model in models_of(config)))
    shapes = {model: shape_of(model) for model in models}
    downloads = [download(model, shape) for model, shape in shapes.items()]
    built = sum(_to_build(model, shape) for model, shape in shapes.items())
    evaluated = _shared_evaluations(done)
    shared = {evaluations(config)["student"]: run.shared for config, run in zip(configs, runs, strict=False)}
    largest = sorted((run.memory or 0 for run in runs), reverse=True)
    at_once = 1 if runtime.processes == "auto" else min(runtime.processes, len(runs))
    return Totals(
        runs=len(runs),
        queries=sum(run.queries.count for run in runs if run.queries),
        evaluations=len(_shared_evaluations(configs) - evaluated) + 3 * sum(not c.record.share for c in configs),
        memory=sum(largest[:at_once]),
        processes=at_once,
        on_cpu=runtime.device == "cpu",
        disks=(
            _disk("models to download", Path(constants.HF_HUB_CACHE), sum(filter(None, downloads))),
            _disk("files of the runs", Path(record.dir), sum(run.files or 0 for run in runs) + sum(shared.values())),
            *([_disk("models to enlarge", cache_root(), built)] if built else []),
        ),
        unknown=(*(model.id for model, shape in shapes.items() if shape is None), *_unmeasured(configs, runs)),
    )


def disk_of(config: Config, run: RunNeeds, shape_of: ShapeOf) -> int | None:
    """Bytes of disk that one run needs: its models that are not here yet, and its own files. None if unknown."""
    shapes = {model: shape_of(model) for model in models_of(config)}
    sizes = [run.files, run.shared, *(download(model, shape) for model, shape in shapes.items())]
    sizes += [_to_build(model, shape) for model, shape in shapes.items()]
    return None if None in sizes else sum(filter(None, sizes))


def cells(config: Config, run: RunNeeds, shape_of: ShapeOf) -> tuple[str, str, str, str]:
    """Table cells of a run: units, queries, memory and disk. `~` marks a number from an assumed shape."""
    about = "~" if run.assumed else ""
    sizes = (format_bytes(run.memory), format_bytes(disk_of(config, run, shape_of)))
    units, asked = ("unknown" if value is None else str(value) for value in (run.units, run.queries))
    memory, disk = (size if size == "unknown" else about + size for size in sizes)
    return units, asked, memory, disk


def models_of(config: Config) -> tuple[Model, ...]:
    """All models of a run except its judges': teacher, student and the transplant's base, if it has one."""
    base = getattr(config.transplant, "base", None)
    return (config.family.teacher, *config.pair.students, *([base] if base else []))


def download(model: Model, shape: Shape | None) -> int | None:
    """Bytes of a model's weights still to download to the hub's cache; None if its shape is unknown."""
    if not source_of(model).remote:
        return 0
    return max(0, shape.checkpoint_bytes - _cached(model)) if shape else None


def _to_build(model: Model, shape: Shape | None) -> int:
    """Bytes of a model that the zoo has yet to make, where it is one of real size."""
    return shape.checkpoint_bytes if shape and source_of(model).to_build else 0


def shortages(totals: Totals) -> list[str]:
    """One sentence for each resource, memory or disk, of which this machine has too little."""
    found = []
    if totals.on_cpu and totals.memory > (free := free_memory()):
        found.append(f"memory: about {format_bytes(totals.memory)} are needed, and {format_bytes(free)} are free")
    for device in dict.fromkeys(disk.device for disk in totals.disks):
        on_it = [disk for disk in totals.disks if disk.device == device]
        if (needed := sum(disk.needed for disk in on_it)) > on_it[0].free:
            folders = " and ".join(dict.fromkeys(str(disk.folder) for disk in on_it if disk.needed))
            found.append(
                f"disk: about {format_bytes(needed)} are needed in {folders},"
                f" and {format_bytes(on_it[0].free)} are free"
            )
    return found


def summary(totals: Totals) -> list[str]:
    """The totals in lines to print below the table of runs."""
    runs = "1 run" if totals.runs == 1 else f"{totals.runs} runs"
    free = f" (free here: {format_bytes(free_memory())})" if totals.on_cpu else ""
    about = "at least" if totals.unknown else "about"
    lines = [
        f"{runs}: {about} {totals.queries:,} queries; memory {about} {format_bytes(totals.memory)}{free},"
        f" {totals.processes} at a time",
        f"models to measure: {totals.evaluations}{_spared(3 * totals.runs - totals.evaluations)}",
        *(
            f"{disk.what}: about {format_bytes(disk.needed)}; {format_bytes(disk.free)} free in {disk.folder}"
            for disk in totals.disks
            if disk.needed
        ),
    ]
    if totals.unknown:
        lines.append(f"not counted, since nothing is known of them yet: {', '.join(totals.unknown)}")
    return lines


def _spared(models: int) -> str:
    return f", and {models} more whose numbers other runs share" if models else " (student, hybrid and teacher)"


def format_bytes(count: int | None) -> str:
    """A number of bytes in decimal MB or GB."""
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _shared_evaluations(configs: Sequence[Config]) -> set[str]:
    """What the evaluations of all models depend on, where runs share them."""
    return {digest for config in configs if config.record.share for digest in evaluations(config).values()}


def _unmeasured(configs: Sequence[Config], runs: Sequence[RunNeeds]) -> Iterator[str]:
    """Names of the searches whose number of queries has not been measured."""
    pairs = zip(configs, runs, strict=False)
    names = {config.search.algorithm for config, run in pairs if run.units is not None and run.queries is None}
    return (f"search={name}" for name in sorted(names))


def _disk(what: str, folder: Path, needed: int) -> Disk:
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    return Disk(what, folder, needed, shutil.disk_usage(there).free, there.stat().st_dev)


def _cached(model: Model) -> int:
    """Bytes that the hub's cache holds of a model, over all revisions."""
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model.id, repo_type="model") / "blobs"
    return sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0
