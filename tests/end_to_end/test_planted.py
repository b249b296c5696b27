"""Where the alignment is known to lie in a few tensors, the search finds it there, and can prove it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from dapa_exp.record.schema import SCHEMA_FILE, Record
from dapa_exp.zoo.recipe import Recipe, find
from tests.commands import Said
from tests.settings import quick


@pytest.mark.parametrize(
    ("line", "pair", "granularity"),
    [
        ("llama-small", "mini-llama-small-base", "mlp"),
        ("mistral", "mini-mistral-base", "gate_proj"),
        ("gemma-small", "mini-gemma-small-base", "projection"),
    ],
)
def test_a_planted_alignment_is_found(
    here: Callable[..., Said], tmp_path: Path, line: str, pair: str, granularity: str
) -> None:
    planted = find(f"{line}-planted")
    assert isinstance(planted, Recipe)
    teacher = f"family.teacher.id=zoo:{planted.name}"
    said = here(*quick(f"pair={pair}", f"granularity={granularity}", teacher))
    assert said.code == 0, said.err
    (folder,) = (file.parent for file in tmp_path.glob("single/*/record.json"))
    text = (folder / "record.json").read_text()
    jsonschema.validate(json.loads(text), json.loads(SCHEMA_FILE.read_text()))
    record = Record.model_validate_json(text)

    assert record.search.status == "certified"
    assert record.search.found_dsr >= record.search.threshold_dsr > record.search.student_dsr
    assert record.search.units_found
    moved = json.loads((folder / "transplant.json").read_text())["transplanted"]
    assert all(re.fullmatch(planted.trained, tensor) for tensor in moved)
    assert record.evaluate.hybrid.dsr.value >= 0.8
    assert record.evaluate.student.dsr.value <= 0.2

    # The certificate: without any one unit the set was really asked for, and really failed.
    queries = [json.loads(query) for query in (folder / "search.jsonl").read_text().splitlines()]
    found = set(record.search.units_found)
    assert {witness.without for witness in record.search.certificate} == found
    for witness in record.search.certificate:
        query = queries[witness.query]
        assert set(query["units"]) == found - {witness.without}
        rows = queries[0]["prompts"]
        assert query["at_most"] == witness.dsr < record.search.threshold_dsr
        assert query["at_most"] == (query["refused"] + rows - query["prompts"]) / rows
        assert witness.prompts == query["prompts"] == len(query["verdicts"])
    assert record.search.ledger.queries == len(queries)


def test_an_alignment_in_attention_is_found_there(here: Callable[..., Said], tmp_path: Path) -> None:
    said = here(*quick("pair=mini-attention-mistral", "granularity=module", "search=auto"))
    assert said.code == 0, said.err
    (file,) = tmp_path.glob("single/*/record.json")
    search = Record.model_validate_json(file.read_text()).search
    assert search.status == "certified"
    assert search.units_total == 20
    assert search.units_found
    assert all(unit.endswith(".attention") for unit in search.units_found)
