"""How much memory this process has used."""

from __future__ import annotations

import resource


def peak_memory_bytes() -> int:
    """The largest resident set size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
