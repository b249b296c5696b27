"""A number of a record, with its n and its interval, and the types that all parts of a record share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 1e-9
"""Tolerance when a rate is compared with the bar. Without it, rounding could fail a set that exactly reaches the bar.

It is far smaller than the share of one row, for any number of rows.
"""

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Natural = Annotated[int, Field(ge=0)]


class RecordPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measure(RecordPart):
    """A number, the count n that it was computed from, and its 95 % interval. The bounds are null if unknown."""

    value: float
    n: Natural
    low: float | None = None
    high: float | None = None
