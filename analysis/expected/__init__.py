"""The paper's reported numbers, from `paper.yaml`. They are printed beside ours, and never used in a computation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel


class Fact(BaseModel):
    """One reported number, how a table prints it, and its source."""

    value: float
    shown: str
    source: str


class Paper(BaseModel):
    """The reported numbers, under the names of our columns."""

    paper: str
    models: int
    mean: dict[str, Fact]
    largest: dict[str, Fact]
    cost: dict[str, Fact]


@cache
def paper() -> Paper:
    """The content of `paper.yaml`."""
    return Paper.model_validate(yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")))
