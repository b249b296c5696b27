"""Things of one kind by name. Each registers itself in its own file; nothing else lists them.

A file of `package`, or one of the user's own (see `dapa_exp.base.plugins`), holds

    JUDGES.register("toy", ToySettings)

and from then on the config allows `judge=toy`, the help names it, and an unknown name is told what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Generic, TypeVar

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.base.plugins import load_plugins

Thing = TypeVar("Thing")


class UnknownNameError(DapaError, ValueError):
    """A name that nothing is registered under. Inside a config it is one problem among all others."""


class Registry(Generic[Thing]):
    """Everything of one kind, by name, in the order of the names.

    `package` is the dotted name of the package whose modules register themselves. They and the plugins are
    imported when the registry is first asked, so that the registry can stand in a layer below them.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._things: dict[str, Thing] = {}
        self._loaded = False

    def register(self, name: str, thing: Thing) -> Thing:
        """Make a thing known by a name. Raises DapaError where another thing has the name."""
        if self._things.setdefault(name, thing) is not thing:
            raise DapaError(f"{self.kind} '{name}' is registered twice: {self._things[name]!r} and {thing!r}")
        return thing

    def get(self, name: str) -> Thing:
        """The thing of that name. Raises UnknownNameError, which says what is allowed."""
        self._load()
        if name not in self._things:
            raise UnknownNameError(
                f"{self.kind} is {name!r};{nearest(str(name), self._things)} allowed: {', '.join(self.names())}"
            )
        return self._things[name]

    def names(self) -> list[str]:
        """All names there are."""
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
        self._loaded = True  # first, since the modules may ask the registry as they are imported
        try:
            package = import_module(self._package)
            for module in iter_modules(package.__path__, f"{self._package}."):
                import_module(module.name)
            load_plugins()
        except BaseException:
            self._loaded = False
            raise
