"""Registries: all judges, all algorithms, … by name. Each entry registers itself in its own file.

For example, a file of the registry's package, or a plugin (see `dapa_exp.base.plugins`), contains

    JUDGES.register("toy", ToySettings)

Then the config allows `judge=toy`, the help lists it, and the error about an unknown judge lists it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Generic, TypeVar

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.base.plugins import load_plugins

Thing = TypeVar("Thing")


class UnknownNameError(DapaError, ValueError):
    """No entry is registered under this name. As a ValueError, pydantic lists it with a config's other problems."""


class Registry(Generic[Thing]):
    """All entries of one kind, by name. Iteration gives (name, entry) pairs sorted by name.

    `package` is the dotted name of the package whose modules register the entries. The first lookup imports these
    modules and the plugins. So a registry may live in a lower layer than its entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._things: dict[str, Thing] = {}
        self._loaded = False

    def register(self, name: str, thing: Thing) -> Thing:
        """Add an entry and return it. Raises DapaError if the name is taken by another entry."""
        if self._things.setdefault(name, thing) is not thing:
            raise DapaError(f"{self.kind} '{name}' is registered twice: {self._things[name]!r} and {thing!r}")
        return thing

    def get(self, name: str) -> Thing:
        """The entry of that name. Raises UnknownNameError, which lists the allowed names."""
        self._load()
        if name not in self._things:
            raise UnknownNameError(f"{self.kind} is {name!r}.{allowed_names(str(name), self.names())}")
        return self._things[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._things)

    def __iter__(self) -> Iterator[tuple[str, Thing]]:
        return ((name, self.get(name)) for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._things

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # set before importing: the modules may look up entries while they are imported
        try:
            package = import_module(self._package)
            for module in iter_modules(package.__path__, f"{self._package}."):
                import_module(module.name)
            load_plugins()
        except BaseException:
            self._loaded = False
            raise
