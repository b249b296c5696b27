"""Packages that only some runs need."""

from __future__ import annotations

from importlib.util import find_spec

from dapa_exp.base.errors import DapaError


def need_package(package: str, purpose: str, extra: str | None = None) -> None:
    """Raises DapaError, with the command that installs it, where an optional package is missing.

    `extra` is that of ours which it comes with; its own name where that is null.
    """
    if find_spec(package) is None:
        raise DapaError(f"{purpose} needs the package {package}: pip install 'dapa_exp[{extra or package}]'")
