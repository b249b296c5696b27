"""The registries of search algorithms, priors, transplant methods and metrics.

Each entry registers itself in its own file, in a higher layer. The classes here declare what the config and
`dapa plan` need to know of an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dapa_exp.base.registry import Registry
from dapa_exp.config.group import Group

if TYPE_CHECKING:
    from dapa_exp.config.schema import Config
    from dapa_exp.config.search import Search


@dataclass(frozen=True)
class Queries:
    """The number of queries of a search, which is `exactly`, `about` or `at most` this many."""

    count: int
    how: str

    def __str__(self) -> str:
        return {"exactly": "", "about": "~", "at most": "≤ "}[self.how] + f"{self.count:,}"


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A search algorithm or a control, described for the config and for `dapa plan`."""

    control: ClassVar[bool] = False
    """Whether it asks for sets that are named in advance, and searches for none."""
    title: str
    """What the algorithm does, in one line."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """The keys of `search` that must be set, each with a description and an example. `a|b` means either key."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Values of keys of `search` that differ from conf/search/_default.yaml."""
    whole_scores: bool = False
    """True if the algorithm uses the scores of failing sets. Then every query asks all rows."""

    def queries(self, search: Search, units: int) -> Queries | None:
        """The number of queries of a search among `units` units, with the two baselines. None if unknown."""
        return None


DESCENDS = 0.5
"""Share of the teacher's change since its base from which a student is taken to be tuned from the teacher: the middle
of 0 and 1."""


class MethodSettings(Group):
    """The settings of a transplant method: its name, and its own keys."""

    of_teacher: ClassVar[bool] = False
    """Whether the method is made for students that were tuned from the teacher only."""
    method: str


class MethodKind:
    """The base class of everything that is registered as a transplant method."""

    Settings: ClassVar[type[MethodSettings]]


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes from which `dapa plan` estimates what a metric needs."""

    vocab_size: int
    context: int
    """The longest text, in tokens, that the model was made for."""
    cache_bytes: int
    """Bytes of the keys and values of one token, in all layers."""
    state_bytes: int
    """Bytes of a prompt's float32 hidden states and attention at its last token, in all layers."""
    dtype_bytes: int
    text_tokens: int | None
    """About how many tokens the longest text has. None if the text rows are joined to one long text."""


class MetricKind:
    """A metric, described for the config, for `dapa plan` and for the tables."""

    name: ClassVar[str]
    titles: ClassVar[Mapping[str, str]] = {}
    """The headings of its numbers in the utility table: one for the metric, or for each of its steps.

    `{}` becomes the number's key."""
    shares: ClassVar[bool] = False
    """True if its numbers are shares from 0 to 1. Tables show them in percent."""
    place: ClassVar[int] = 100
    """Its position in the utility table."""

    def working_bytes(self, config: Config, sizes: ModelSizes) -> int:
        """The memory that it needs beside the model."""
        return 0

    def kept_bytes(self, config: Config, sizes: ModelSizes) -> int:
        """The most bytes that it keeps in the run's folder until the run is done."""
        return 0


ALGORITHMS: Registry[Algorithm] = Registry("algorithm", "dapa_exp.search.algorithms")
PRIORS: Registry[Callable[[Any], dict[str, float]]] = Registry("prior", "dapa_exp.search.priors")
METHODS: Registry[type[MethodKind]] = Registry("method", "dapa_exp.transplant.methods")
METRICS: Registry[MetricKind] = Registry("metric", "dapa_exp.evaluate.metrics")
