"""The sets that a search is given: named in the config, or found by another run."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import expanded
from dapa_exp.config.search import Search
from dapa_exp.record.layout import RunLayout


def given_units(search: Search) -> tuple[str, ...]:
    """The units named in the config, or those found by the run in the folder `search.from`; () if neither is set.

    A pattern such as `multirun/x/*-mlp-auto-*` names several runs: then these are all units that any of them found.

    Raises DapaError if that run's search is not done, or found no set.
    """
    if search.from_run is None:
        return tuple(search.units or ())
    return _found("search.from", search.from_run)


def within_units(search: Search) -> tuple[str, ...] | None:
    """The units found by the run in the folder `search.within`; None if it is not set.

    Raises DapaError if that run's search is not done, or found no set.
    """
    return None if search.within is None else _found("search.within", search.within)


def _found(key: str, folder: str) -> tuple[str, ...]:
    """The units that the run in a folder found, or any of the runs whose folders match a pattern with `*`."""
    path = expanded(folder)
    folders = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not folders:
        raise DapaError(f"{key}={folder}: no folder has such a name")
    return tuple(dict.fromkeys(unit for each in folders for unit in _units_of(key, each)))


def _units_of(key: str, folder: Path) -> list[str]:
    found = RunLayout(folder).read_search()
    if not found.units_found or found.status == "no_gain":
        raise DapaError(f"{key}={folder}: that run found no set ({found.status})")
    return found.units_found
