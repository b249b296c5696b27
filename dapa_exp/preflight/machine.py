"""What `runtime=auto` takes from this machine. It must stay the same: a run's identity depends on it."""

from __future__ import annotations

from functools import cache

from dapa_exp.base.cores import cores
from dapa_exp.preflight.settings import is_here

Value = str | int | float


def this_machine(key: str) -> Value:
    """The value of a key of `runtime`."""
    return _values()[key]


@cache
def _values() -> dict[str, Value]:
    if is_here("cuda"):
        return {
            "device": "cuda",
            "dtype": "bfloat16",
            "batch_size": 64,
            "threads": 4,
            "reuse_memory": 16.0,
            "graphs": True,
        }
    return {
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 48,
        "threads": cores(),
        "reuse_memory": 2.0,
        "graphs": False,
    }
