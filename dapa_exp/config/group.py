"""The base class of all config groups."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Settings with typed keys: an unknown key is an error, and no value changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
