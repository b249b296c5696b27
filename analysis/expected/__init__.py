"""What the paper reports, from `paper.yaml`: facts to print beside ours, never to compute with."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel


class Fact(BaseModel):
    """One reported number, how a table prints it, and where it is from."""

    value: float
    shown: str
    source: str


class Paper(BaseModel):
    """The reported numbers, under the names of our columns."""

    paper: str
    models: int
    mean: dict[str, Fact]
    largest: dict[str, Fact]


@cache
def paper() -> Paper:
    """Read `paper.yaml`."""
    return Paper.model_validate(yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")))
