"""Memory is this program's own."""

from __future__ import annotations

import subprocess
import sys

from dapa_exp.base.memory import peak_memory_bytes

READ = "from dapa_exp.base.memory import peak_memory_bytes; print(peak_memory_bytes())"


def test_a_peak_is_not_that_of_the_program_that_started_this_one() -> None:
    held = bytearray(b"x") * 400_000_000
    started = subprocess.run([sys.executable, "-c", READ], capture_output=True, check=True, text=True)
    assert 1_000_000 < int(started.stdout) < 200_000_000
    assert peak_memory_bytes() > len(held)
