"""The set of units for `search=given`: named in the config, or found by another run."""

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
    found = RunLayout(Path(search.from_run).expanduser()).read_record().search
    if not found.units_found or found.status == "no_gain":
        raise DapaError(f"search.from={search.from_run}: that run found no set ({found.status})")
    return tuple(found.units_found)
