"""The kinds of names and numbers that config keys take."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dapa_exp.base.registry import Registry
from dapa_exp.config.registries import ALGORITHMS, METRICS, PRIORS

ModuleName = Literal[
    "layer", "mlp", "attention", "norms", "router", "gate_proj", "up_proj", "down_proj", "embeddings", "final_norm"
]


def _registered(registry: Registry[Any]) -> AfterValidator:
    """Refuses a name that nothing is registered under."""

    def check(name: str) -> str:
        registry.get(name)
        return name

    return AfterValidator(check)


AlgorithmName = Annotated[str, _registered(ALGORITHMS)]
PriorName = Annotated[str, _registered(PRIORS)]
MetricName = Annotated[str, _registered(METRICS)]


def _no_truth_value(given: Any) -> Any:
    """Python takes true for 1."""
    if isinstance(given, bool):
        raise ValueError(f"is {str(given).lower()}; a number is allowed")
    return given


Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Real = Annotated[float, BeforeValidator(_no_truth_value)]
Share = Annotated[Real, Field(ge=0.0, le=1.0)]
Count = Annotated[Whole, Field(ge=1)]


def _count_or_auto(given: Any) -> Any:
    if given != "auto" and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ValueError(f"is {given!r}; allowed: auto, and whole numbers from 1")
    return given


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)]


def device_name(*others: str) -> AfterValidator:
    """A validator that accepts torch's device names and the names in `others`."""

    def check(name: str) -> str:
        if name not in others and not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d*))?|mps", name):
            raise ValueError(f"is {name!r}; allowed: {', '.join((*others, 'cpu', 'cuda', 'cuda:N', 'mps'))}")
        return name

    return AfterValidator(check)


Device = Annotated[str, device_name()]


def _fit_for_a_folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"is {name!r}; it names folders, so it must be of letters, digits, '_', '.', '+' and '-'")
    return name


FolderName = Annotated[str, AfterValidator(_fit_for_a_folder)]


def _below_a_folder(name: str) -> str:
    for part in name.split("/"):
        _fit_for_a_folder(part)
    return name


FolderBelow = Annotated[str, AfterValidator(_below_a_folder)]
"""A folder below another one, perhaps several levels down."""


def sure_place(folder: str) -> str:
    if not folder or folder.startswith("~"):
        raise ValueError(f"is {folder!r}; it must name a folder, and nobody expands a '~' in it")
    return folder


def refuse_strange(name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"'{name}': names files and columns, so it must be of letters, digits and underscores")


def named_once(names: list[ModuleName]) -> list[ModuleName]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names {', '.join(repeated)} more than once")
    return names
