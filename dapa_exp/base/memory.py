"""How much memory this process has used."""

from __future__ import annotations

import resource


def peak_memory_bytes() -> int:
    """The highest resident set of this process so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
