"""Whatever is killed, and whenever: a file has its old content or its new one."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dapa_exp.base.files import atomic, leftovers, write_atomically

ROOT = Path(__file__).parents[2]
FULL = """
import resource, sys
from pathlib import Path
from dapa_exp.base.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path(sys.argv[1]), "x" * 5000)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from dapa_exp.base.files import atomic
with atomic(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "half").write_text("of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(script: str, path: Path) -> int:
    return subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True).returncode


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.json"
    write_atomically(file, "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "two \ud800")
    assert file.read_text() == "one"
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    write_atomically(file, b"old")
    assert run(FULL, file) == 1
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["model", "model/new"]


def test_a_kill_leaves_what_the_next_can_tell_from_the_rest(tmp_path: Path) -> None:
    assert run(KILLED, tmp_path / "model") == -9
    assert not (tmp_path / "model").exists()
    (left,) = leftovers(tmp_path)
    assert leftovers(tmp_path, "model") == [left]
    assert not leftovers(tmp_path, "mode")
    assert not leftovers(tmp_path, older_than=60)
    os.utime(left, (1, 1))
    assert leftovers(tmp_path, older_than=60) == [left]


def test_many_writers_of_one_file_do_not_collide(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda i: write_atomically(tmp_path / "a", str(i % 10) * 1000), range(200)))
    assert len(set((tmp_path / "a").read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
