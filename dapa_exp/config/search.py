"""The config groups `granularity`, `search` and `localise`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from dapa_exp.config.group import Group
from dapa_exp.config.names import (
    AlgorithmName,
    Count,
    FolderName,
    ModuleName,
    PriorName,
    Real,
    Share,
    Whole,
    named_once,
)
from dapa_exp.config.registries import ALGORITHMS


class Granularity(Group):
    """What a unit is: each of these modules, in every layer if the module is part of a layer."""

    name: FolderName
    modules: Annotated[list[ModuleName], Field(min_length=1), AfterValidator(named_once)]


class Search(Group):
    """How to search for a smallest set of units, and when a set passes."""

    model_config = ConfigDict(populate_by_name=True)  # `from` is no name in Python

    algorithm: AlgorithmName
    prior: PriorName | None = Field(description="how the importance of units is estimated before the first query")
    prior_rows: Count = Field(description="number of search rows that the prior is computed from")
    threshold: Share = Field(description="share of the DSR gain of all units that a set must keep to pass")
    weight: Literal["units", "parameters"] = Field(
        default="units", description="what the found set should have the fewest of"
    )
    min_gain: Share = Field(description="no search if the DSR gain of all units is smaller than this")
    max_new_tokens: Count
    longer_tokens: Count | None = Field(
        default=None,
        description="length of the answers on rows where the first max_new_tokens mislead; null: max_new_tokens",
    )
    stop_when_decided: bool = Field(description="stop a query once the set must fail; its DSR is then only bounded")
    max_queries: Count | None
    max_seconds: Annotated[Real, Field(gt=0)] | None
    seed: Whole
    k: Count | None
    repeats: Count
    share: Share | None = Field(
        default=None, description="share of the student's parameters that search=share may replace"
    )
    units: list[str] | None = Field(default=None, description="the set that search=given takes")
    from_run: str | None = Field(
        default=None,
        alias="from",
        description="or the folder of the run that found the set; with *, all units that any of several runs found",
    )
    within: str | None = Field(
        default=None, description="folder of a run: the search chooses only among units inside the set that it found"
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for keys, what in ALGORITHMS.get(self.algorithm).needs.items():
            if all(getattr(self, key) is None for key in keys.split("|")):
                raise ValueError(f"search={self.algorithm} needs {what}")
        return self

    @model_validator(mode="after")
    def _longer_is_longer(self) -> Self:
        if self.longer_tokens is not None and self.longer_tokens <= self.max_new_tokens:
            raise ValueError(f"longer_tokens {self.longer_tokens}: must be more than max_new_tokens")
        return self

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Self:
        if self.units is not None and self.from_run is not None:
            raise ValueError("units and from: both name a set; one of them is enough")
        if self.algorithm != "given" and (self.units is not None or self.from_run is not None):
            raise ValueError(f"search={self.algorithm} takes neither units nor from; search=given does")
        return self


class Localise(Group):
    """Settings of causal tracing, for `dapa localise` and search.prior=causal_tracing."""

    noise: Annotated[Real, Field(gt=0)] = Field(description="in standard deviations of the requests' embeddings")
    seeds: Count = Field(description="draws of noise for each prompt")
    window: Count = Field(description="neighbouring layers restored together, for MLP and attention")
