"""The sets that a search is given: named in the config, or found by another run."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Search
from dapa_exp.record.layout import RunLayout


def given_units(search: Search) -> tuple[str, ...]:
    """The units named in the config, or those found by the run in the folder `search.from`; () if neither is set.

    Raises DapaError if that run is not done, or found no set.
    """
    if search.from_run is None:
        return tuple(search.units or ())
    return _found("search.from", search.from_run)


def within_units(search: Search) -> tuple[str, ...] | None:
    """The units found by the run in the folder `search.within`; None if it is not set.

    Raises DapaError if that run is not done, or found no set.
    """
    return None if search.within is None else _found("search.within", search.within)


def _found(key: str, folder: str) -> tuple[str, ...]:
    found = RunLayout(Path(folder).expanduser()).read_record().search
    if not found.units_found or found.status == "no_gain":
        raise DapaError(f"{key}={folder}: that run found no set ({found.status})")
    return tuple(found.units_found)
