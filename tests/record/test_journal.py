"""A journal loses no line that was whole, and no reader changes it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from dapa_exp.base.errors import DapaError
from dapa_exp.record.journal import Journal, read_lines


class Line(BaseModel):
    """What the journals here hold."""

    index: int
    text: str = ""


FULL = """
import resource, sys
from pathlib import Path
from tests.record.test_journal import Journal, Line
journal = Journal(Path(sys.argv[1]), Line)
journal.append({"index": 0})
size = journal.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
try:
    journal.append({"index": 1, "text": "long enough to be torn"})
except OSError:
    print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"index": 1})
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "a.jsonl"


def test_to_open_a_journal_leaves_nothing_behind(file: Path) -> None:
    assert read_lines(file, Line) == Journal(file, Line).lines == []
    assert not file.parent.exists()


@pytest.mark.parametrize("torn", [b'{"index": 2, "sc', b'{"index": 2}', b"\x00\x00\x00", b'{"x": "\xc3'])
def test_a_torn_last_line_is_left_out_by_readers_and_cut_off_by_the_writer(file: Path, torn: bytes) -> None:
    Journal(file, Line).append({"index": 0, "text": "line\r\nbreak\u2028"}, {"index": 1})
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert [line["index"] for line in read_lines(file, Line)] == [0, 1]
    opened = Journal(file, Line)
    assert file.read_bytes() == whole + torn
    opened.append({"index": 2})
    assert file.read_bytes() == whole + b'{"index": 2}\n'
    assert read_lines(file, Line) == opened.lines


@pytest.mark.parametrize(
    "damage", [b'{"index": \xff}', b'{"index": "1"}', b"[1]", b"", b'{"index": 5}', b"{}", b'{"index": 1']
)
@pytest.mark.parametrize("last", [True, False])
def test_one_bad_byte_is_an_error_that_says_where_and_costs_no_line(file: Path, damage: bytes, last: bool) -> None:
    file.parent.mkdir()
    content = b'{"index": 0}\n' + damage + b"\n" + (b"" if last else b'{"index": 2}\n')
    file.write_bytes(content)
    for read in (read_lines, Journal):
        with pytest.raises(DapaError, match=r"a\.jsonl, line 2: damaged \(.*\); nothing was changed"):
            read(file, Line)
    assert file.read_bytes() == content


def test_a_disk_that_is_full_in_the_middle_of_a_line_tears_none(file: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FULL, str(file)], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("full\n", "")
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"index": 0}, {"index": 1}]


@pytest.mark.parametrize("second", [lambda file: Journal(file, Line).append({"index": 1}), Path.unlink])
def test_what_a_second_writer_has_done_is_not_undone(file: Path, second: Callable[[Path], object]) -> None:
    first = Journal(file, Line)
    first.append({"index": 0})
    second(file)
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(DapaError, match=r"another process has changed it; nothing was written"):
        first.append({"index": 1})
    assert (file.read_bytes() if file.exists() else None) == before
