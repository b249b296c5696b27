"""Every benchmark of `make bench` runs, in a small form, and says what it measured against which bound."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.digests import cache_root
from dapa_exp.base.progress import silent
from dapa_exp.zoo.build import build

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = re.findall(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    build(["llama-small-style", "llama-small-chat"], silent)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "zoo").symlink_to(cache_root() / "zoo")
    words = [sys.executable, "-m", f"tests.benchmarks.{name}", "--smoke", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "DAPA_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"]
    assert found["targets"]
    for target in found["targets"]:
        assert set(target) == {"name", "measured", "bound", "better"}
        assert target["name"] in done.stdout.replace("\n", " ") or len(target["name"]) > 60
