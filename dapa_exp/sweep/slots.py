"""Where the runs of a sweep work at the same time: on the CPU, or spread over the GPUs of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from dapa_exp.base.cores import cores
from dapa_exp.base.memory import free_memory
from dapa_exp.config.schema import Config
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import shape_of

Slot = str | None
"""The value of CUDA_VISIBLE_DEVICES of a run's process; None leaves it as it is."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
MARGIN = 0.9
"""The share of the free memory that runs may take together by their estimates."""


def slots(configs: Sequence[Config]) -> list[Slot]:
    """One slot for each run that works at a time. Runs of `runtime.device=cuda` are spread over all visible GPUs.

    With `runtime.processes=auto`, as many work on each device as fit into its free memory by the estimate of the
    largest run, and on the CPU no more than there are cores for.
    """
    runtime = configs[0].runtime
    places: dict[Slot, int | None] = {None: free_memory() if runtime.device == "cpu" else None}
    if runtime.device == "cuda":
        places = gpus() or places
    if runtime.processes != "auto":
        return (list(places) * runtime.processes)[: runtime.processes]
    largest = max((needs(config, shape_of).memory or 0 for config in configs), default=0)
    most = cores() // runtime.threads if runtime.device == "cpu" else len(configs)
    fits = {place: max(1, min(_fits(free, largest), most)) for place, free in places.items()}
    spread = [place for layer in range(max(fits.values())) for place in places if fits[place] > layer]
    return spread[: len(configs)]


def _fits(free: int | None, needed: int) -> int:
    """How many runs fit into a device's memory: one, if its memory or their need is unknown."""
    return int(free * MARGIN) // needed if free and needed else 1


def gpus() -> dict[Slot, int | None]:
    """The visible GPUs, as CUDA_VISIBLE_DEVICES names them, and their free bytes; None if unknown."""
    listed = [line.split(", ") for line in _ask_driver().splitlines()]
    free = {name: int(mebibytes) << 20 for index, uuid, mebibytes in listed for name in (index, uuid)}
    visible = os.environ.get(VISIBLE)
    named = [index for index, *_ in listed] if visible is None else list(filter(None, visible.split(",")))
    return {name.strip(): free.get(name.strip()) for name in named}


def _ask_driver() -> str:
    """Index, UUID and free MiB of each GPU, one a line; an empty text without NVIDIA's driver."""
    try:
        asked = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
