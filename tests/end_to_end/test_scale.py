"""The benchmark of real sizes, on a tiny shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.scale import main

pytestmark = pytest.mark.slow


def test_a_tiny_shape_goes_through_all_stages(tmp_path: Path) -> None:
    main(["--smoke", "--json", str(tmp_path / "scale.json")])
    found = json.loads((tmp_path / "scale.json").read_text())
    measured = {target["name"]: target["measured"] for target in found["targets"]}
    assert measured["run: certified"] == measured["run: the known set found"] == 1
    assert measured["run: plan's memory, share off"] < 0.3
    assert measured["run: plan's disk, share off"] < 0.3
    assert measured["answers: answers that differ"] == 0
    (answers,) = (row for row in found["rows"] if row["stage"] == "answers")
    assert answers["shortest"] < answers["longest"] == 24, "rows of one length would not show what their ends save"
