"""How much memory this process has used, and how much is free."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """The largest resident set of this program so far, in bytes.

    Linux's `ru_maxrss` is not it: a program that a larger one starts inherits the larger one's peak. The kernel's
    `VmHWM` begins anew with the program. Elsewhere `ru_maxrss` is the only source: bytes on macOS, KiB on others.
    """
    if STATUS.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory() -> int:
    """Bytes of memory that new processes can use without swapping."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
