"""Things register themselves: those of a package and those in files of the user's own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.plugins import VARIABLE, add_plugins
from dapa_exp.base.registry import Registry

SHELF = 'from {} import REGISTRY\n\n\nclass Thing:\n    """A thing."""\n\n\nREGISTRY.register("{}", Thing)\n'


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    """A registry `REGISTRY` in a module of its own, with a package of one file that registers "plain"."""
    monkeypatch.setenv(VARIABLE, "")
    package = f"shelf_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / package
    folder.mkdir()
    (tmp_path / f"{package}_registry.py").write_text(
        f'from dapa_exp.base.registry import Registry\n\nREGISTRY = Registry("thing", "{package}")\n'
    )
    (folder / "__init__.py").write_text("")
    (folder / "plain.py").write_text(SHELF.format(f"{package}_registry", "plain"))
    monkeypatch.syspath_prepend(tmp_path)
    found: Registry[type] = __import__(f"{package}_registry").REGISTRY
    return found


def test_a_file_of_the_package_is_all_that_it_takes(registry: Registry[type]) -> None:
    assert registry.names() == ["plain"]
    assert registry.get("plain").__name__ == "Thing"
    with pytest.raises(DapaError, match=r"thing is 'plian'\. Did you mean 'plain'\? Allowed: plain"):
        registry.get("plian")
    with pytest.raises(DapaError, match="thing 'plain' is registered twice"):
        registry.register("plain", int)


def test_so_is_a_file_in_a_folder_of_the_users_and_child_processes_know_it(
    registry: Registry[type], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    module = type(registry.get("plain")).__module__
    name = f"fancy_{tmp_path.name}".replace("-", "_")
    (mine / f"{name}.py").write_text(SHELF.format(f"{registry._package}_registry", "fancy"))
    assert module
    add_plugins(mine)
    assert registry.names() == ["fancy", "plain"]
    thing = pickle.dumps(registry.get("fancy"))
    code = f"import sys, pickle; sys.path.insert(0, {str(tmp_path)!r}); print(pickle.loads({thing!r}).__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "Thing\n"


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    (tmp_path / "broken_plugin.py").write_text("import no_such_module\n")
    with pytest.raises(DapaError, match=r"broken_plugin\.py: cannot be imported: ModuleNotFoundError"):
        add_plugins(tmp_path)
