"""What a config may name that has code of its own: search algorithms, priors, transplant methods.

Each registers itself in its own file. What the config and the plan need to know of one is declared here, below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dapa_exp.base.registry import Registry
from dapa_exp.config.group import Group

if TYPE_CHECKING:
    from dapa_exp.config.schema import Search


@dataclass(frozen=True)
class Queries:
    """How many sets a search will ask for: `exactly`, `about`, or `at most` so many."""

    count: int
    how: str

    def __str__(self) -> str:
        return {"exactly": "", "about": "~", "at most": "≤ "}[self.how] + f"{self.count:,}"


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A way to come to a set of units, as far as a config and a plan need to know it."""

    title: str
    """What it does, in one line."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Fields of `search` that it cannot do without, each with what is to be given and an example; `a|b`: either."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Values of keys of `search` where they are not those of conf/search/_default.yaml."""
    whole_scores: bool = False
    """It compares or reports the scores of sets that fail, and so needs them of all rows."""

    def queries(self, search: Search, units: int) -> Queries | None:
        """How many sets a search among so many units asks for, the baselines' two with them; None: not known."""
        return None


class MethodSettings(Group):
    """The settings of a transplant method: its name, and what is its own."""

    method: str


class MethodKind:
    """What is registered of a transplant method: its class."""

    Settings: ClassVar[type[MethodSettings]]


ALGORITHMS: Registry[Algorithm] = Registry("algorithm", "dapa_exp.search.algorithms")
PRIORS: Registry[Callable[[Any], dict[str, float]]] = Registry("prior", "dapa_exp.search.priors")
METHODS: Registry[type[MethodKind]] = Registry("method", "dapa_exp.transplant.methods")
