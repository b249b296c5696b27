"""Where a result comes from: the commit of the code's own repository, and of no other that it happens to lie in."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from dapa_exp.record import provenance


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def commit_from(file: Path) -> str | None:
    """What the code says of itself when it lies there."""
    spec = spec_from_file_location("installed", file)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: str | None = module.git_commit()
    return found


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_commit_is_that_of_the_repository_which_tracks_the_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    git(tmp_path, "init")
    git(tmp_path, "add", "mine.py")
    git(tmp_path, "commit", "-m", "somebody's own project")
    installed = tmp_path / ".venv" / "dapa_exp" / "record" / "provenance.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, installed)
    assert commit_from(installed) is None
    git(tmp_path, "add", "--force", str(installed))
    git(tmp_path, "commit", "-m", "a checkout of the code")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit_from(installed) == head
    installed.write_text(installed.read_text() + "\n")
    assert commit_from(installed) == f"{head}-dirty"


def test_a_checkout_that_is_not_installed_has_versions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "a-package-that-is-not-there"))
    found = provenance.versions()
    assert found["a-package-that-is-not-there"] == "not installed"
    assert found["torch"][0].isdigit()
