"""Packages that only some runs need."""

from __future__ import annotations

from importlib.util import find_spec

from dapa_exp.base.errors import DapaError


def need_package(package: str, purpose: str, extra: str | None = None) -> None:
    """Raise DapaError with the install command if an optional package is missing. `purpose` begins its message.

    `extra` is the extra of dapa_exp that installs the package; by default it has the package's name.
    """
    if find_spec(package) is None:
        raise DapaError(f"{purpose} needs the package {package}: pip install 'dapa_exp[{extra or package}]'")
