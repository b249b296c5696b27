"""Python files of the user's own that add a judge, an algorithm or another thing that has a registry.

They are the `*.py` files in the folders that the environment variable DAPA_PLUGINS names (`--config-dir FOLDER`
adds `FOLDER/plugins`), and the modules that installed packages name as entry points of the group `dapa_exp.plugins`.
A file `toy.py` is imported as `dapa_exp.base.plugins.toy`: no file of the user's can hide another module, and
child processes, which inherit the variable, find the classes of a config that they are handed.
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
    """Make the Python files of a folder known, here and in all processes that are started from here.

    They are imported now, so that what they register is there. Raises DapaError where one cannot be imported.
    """
    place = os.path.abspath(folder)
    named = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if place not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, place])
    load_plugins()


def load_plugins() -> None:
    """Import every plugin. Raises DapaError where one cannot be imported."""
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
    except Exception as error:  # whatever a user's file raises
        raise DapaError(f"{where}: cannot be imported: {type(error).__name__}: {error}") from error
