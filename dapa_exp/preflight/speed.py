"""How fast this machine computes, measured in a moment."""

from __future__ import annotations

import time

import torch

from dapa_exp.config.schema import Runtime

SIDE = 1024
"""Rows and columns of the matrices whose product is timed."""
PRODUCTS = 10


def operations_a_second(runtime: Runtime) -> float:
    """The speed of a product of large matrices, on the run's device and in its dtype; on a CPU with one thread.

    Time that other programs take on a CPU does not count.
    """
    device = "cuda" if runtime.device == "auto" else runtime.device
    clock = time.perf_counter if device.startswith("cuda") else time.thread_time
    matrix = torch.ones(SIDE, SIDE, dtype=getattr(torch, runtime.dtype), device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    float((matrix @ matrix)[0, 0])  # on a new installation, loading the code takes longer than the products
    started = clock()
    for _ in range(PRODUCTS):
        float((matrix @ matrix)[0, 0])  # the CPU waits for the device
    spent = clock() - started
    torch.set_num_threads(threads)
    return PRODUCTS * 2 * SIDE**3 / spent
