"""The record's schema: a file of its own, the same as the code's, and strict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from analysis import load
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import SCHEMA_FILE, Record, json_schema
from dapa_exp.record.status import status
from tests.analysis.factory import record

SCHEMA = json.loads(SCHEMA_FILE.read_text())


def test_the_committed_schema_is_the_codes() -> None:
    """After a change: python -m dapa_exp.record.schema."""
    assert json_schema() == SCHEMA


def test_the_schema_is_a_schema_and_takes_a_record() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert list(validator.iter_errors(json.loads(record().model_dump_json()))) == []


def test_a_record_comes_back_as_it_was_written() -> None:
    assert Record.model_validate_json(record().model_dump_json(indent=1)) == record()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Measure(value=value, n=1)
    with pytest.raises(ValidationError):
        Measure(value=0.0, n=1, high=value)
    text = record().model_dump_json().replace('"percent":6.25', '"percent":NaN')
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


def without_identity(body: dict[str, Any]) -> None:
    del body["identity"]


def with_a_stranger(body: dict[str, Any]) -> None:
    body["search"]["luck"] = 1


def with_an_impossible_rate(body: dict[str, Any]) -> None:
    body["search"]["found_dsr"] = 1.5


def of_a_later_version(body: dict[str, Any]) -> None:
    body["schema_version"] = 3


@pytest.mark.parametrize("damage", [without_identity, with_a_stranger, with_an_impossible_rate, of_a_later_version])
def test_code_and_schema_file_refuse_the_same(damage: Any) -> None:
    body = json.loads(record().model_dump_json())
    damage(body)
    with pytest.raises(ValidationError):
        Record.model_validate(body)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, SCHEMA)


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """The stored example was written by the code of 22 November 2026. It stays as it is, whatever is added."""
    folder = tmp_path / "miniature" / "run"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("record-2026-11-22.json"), folder / "record.json")
    (run,) = status(folder.parent)
    assert (run.state, run.pair, run.search) == ("done", "a", "ddmin")
    assert run.record is not None
    assert run.record.evaluate.hybrid.dsr.value == 0.95
    assert run.record.search.ledger.queries == 17
    assert len(load(folder.parent)) > 0
