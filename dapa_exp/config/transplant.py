"""The config groups `transplant` and `drift`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from dapa_exp.config.group import Group
from dapa_exp.config.names import Count
from dapa_exp.config.registries import METHODS, MethodSettings


def _settings_of_its_method(body: object) -> object:
    """The settings of a transplant in the class that its method has registered."""
    if not isinstance(body, dict):
        return body
    if "method" not in body:
        raise ValueError(f"method: mandatory key is missing; allowed: {', '.join(METHODS.names())}")
    return METHODS.get(body["method"]).Settings.model_validate(body)


Transplant = Annotated[SerializeAsAny[MethodSettings], BeforeValidator(_settings_of_its_method)]
"""The transplant method and its own settings."""


class Drift(Group):
    """Settings of `dapa drift`: how the hybrid is tuned before it is transplanted again."""

    rounds: Count
    tuned: Literal["all", "inside", "outside"] = Field(
        description="the weights that are tuned: all, those of the found units, or all but them"
    )
    tuning: Transplant = Field(description="settings of transplant=fine_tune")

    @field_validator("tuning")
    @classmethod
    def _tunes(cls, tuning: MethodSettings) -> MethodSettings:
        if tuning.method != "fine_tune":
            raise ValueError(f"method is {tuning.method!r}; only fine_tune tunes")
        return tuning
