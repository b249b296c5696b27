"""Longer answers in a search, on the rows whose first tokens mislead the judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.config.search import Search
from dapa_exp.record.identity import essence
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from tests.settings import quick_config

SHORT = ("pair=mini-mistral-style", "search=auto", "evaluate.random_repeats=0", "search.max_new_tokens=2")


def carried_out(folder: Path, *words: str) -> Record:
    build(["mistral-style", "mistral-chat"], silent)
    return run(quick_config(*SHORT, *words), folder / "sweep" / "run", silent)


@pytest.mark.slow
def test_a_search_that_reads_too_little_finds_what_one_that_reads_enough_does(tmp_path: Path) -> None:
    assert carried_out(tmp_path / "short").search.status == "no_gain"
    longer = carried_out(tmp_path / "longer", "search.longer_tokens=32")
    enough = carried_out(tmp_path / "enough", "search.max_new_tokens=32")
    assert longer.search.longer_rows == 16, "two tokens of such a refusal are none"
    assert longer.search.units_found == enough.search.units_found
    assert longer.search.found_dsr == enough.search.found_dsr
    assert enough.search.longer_rows is None
    assert enough.evaluate.hybrid.defence["report"]["phrases"].shortened is None, "both are 32 tokens long"
    short = longer.evaluate.hybrid.defence["report"]["phrases"].shortened
    assert short is not None
    assert (short.tokens, short.dsr.value, short.only_short) == (2, 0.0, 0)
    assert short.only_whole == round(16 * longer.evaluate.hybrid.dsr.value)
    folder = tmp_path / "longer" / "sweep" / "run"
    RunLayout(folder).record.unlink()
    RunLayout(folder).found.unlink()
    queries = RunLayout(folder).queries.read_text()
    assert carried_out(tmp_path / "longer", "search.longer_tokens=32").search == longer.search
    assert RunLayout(folder).queries.read_text() == queries, "nothing is asked again"


def test_longer_answers_are_longer_and_count_in_the_identity_only_if_asked_for() -> None:
    assert "longer_tokens" not in essence(quick_config())["search"]
    assert essence(quick_config("search.longer_tokens=64"))["search"]["longer_tokens"] == 64
    body = quick_config().search.model_dump() | {"longer_tokens": 32}
    with pytest.raises(ValueError, match="must be more than max_new_tokens"):
        Search.model_validate(body)
