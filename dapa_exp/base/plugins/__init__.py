"""Plugins: the user's own Python files that register a judge, an algorithm, a metric or an entry of another registry.

Plugins are found in two places: the `*.py` files of the folders in the environment variable DAPA_PLUGINS
(`--config-dir FOLDER` adds `FOLDER/plugins` to it), and the entry points of installed packages in the group
`dapa_exp.plugins`.

A file `toy.py` is imported as `dapa_exp.base.plugins.toy`, so a plugin cannot shadow another module. Child processes
inherit DAPA_PLUGINS, so they can unpickle a config whose classes a plugin defines.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from dapa_exp.base.errors import DapaError

VARIABLE = "DAPA_PLUGINS"
GROUP = "dapa_exp.plugins"

_own, *_ = __path__


def _look_again() -> None:
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    __path__[:] = [_own, *filter(None, named)]


_look_again()


def add_plugins(folder: str | Path) -> None:
    """Import the plugins of a folder in this process, and in the child processes that it starts later.

    Raises DapaError if a file cannot be imported.
    """
    place = os.path.abspath(folder)
    named = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if place not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, place])
    load_plugins()


def load_plugins() -> None:
    """Import every plugin. Raises DapaError if one cannot be imported."""
    _look_again()
    for folder in map(Path, __path__[1:]):
        for file in sorted(folder.glob("*.py")):
            if file.stem.isidentifier():
                _load(f"{__name__}.{file.stem}", str(file))
    for point in entry_points(group=GROUP):
        _load(point.value, f"plugin {point.name}")


def _load(module: str, where: str) -> None:
    try:
        import_module(module)
    except DapaError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise DapaError(f"{where}: cannot be imported: {type(error).__name__}: {error}") from error
