"""Where a model comes from is told in one place, and who has folders and a hub needs neither zoo nor fetched rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.digests import folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.models import Model
from dapa_exp.models.source import source_of
from dapa_exp.zoo import recipe, store
from tests.tiny import tiny_checkpoint

WITHOUT = """
import sys
sys.modules |= {"dapa_exp.zoo": None, "dapa_exp.fetch": None}
from dapa_exp.config.models import Model
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.complete import read_whole
read_whole(locate(Model(id=sys.argv[1], revision=None), weights=True))
"""


def model(name: str, revision: str | None = None) -> Model:
    return Model(id=name, revision=revision)


def test_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    source = source_of(model(str(tiny_checkpoint(tmp_path, "llama", 1))))
    assert (source.remote, source.to_build) == (False, None)
    assert source.locate(True, silent) == tmp_path
    assert source.file("config.json") == tmp_path / "config.json"
    assert source.file("nothing.json") is None
    before = source.essence()
    assert before == {"id": "folder", "revision": folder_digest(tmp_path)}
    tiny_checkpoint(tmp_path, "llama", 2)
    assert source.essence() != before


@pytest.mark.parametrize(("name", "kind"), [("./nowhere", "folder"), ("./nowhere.gguf", "file")])
def test_a_folder_that_is_not_there_is_named_as_it_was_written(name: str, kind: str) -> None:
    source = source_of(model(name))
    for ask in (source.essence, lambda: source.locate(True, silent)):
        with pytest.raises(DapaError, match=f"no such {kind} {name}"):
            ask()


def test_a_model_of_the_zoo_is_known_by_its_recipe_built_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    source = source_of(model("zoo:llama-small-chat"))
    assert source.essence() == {"id": "zoo:llama-small-chat", "revision": recipe.digest("llama-small-chat")}
    assert (source.remote, source.to_build, source.file("config.json")) == (False, "llama-small-chat", None)
    with pytest.raises(DapaError, match="is not built yet"):
        source.locate(True, silent)

    def write(folder: Path) -> None:
        tiny_checkpoint(folder, "llama", 1)

    with store.lock("llama-small-chat"):
        store.write("llama-small-chat", {}, write)
    assert source.to_build is None
    assert source.locate(True, silent) == store.path("llama-small-chat")


def test_a_model_of_the_hub_is_known_by_id_and_revision() -> None:
    source = source_of(model("some/model", "abc"))
    assert (source.remote, source.to_build, source.file("config.json")) == (True, None, None)
    assert source.essence() == {"id": "some/model", "revision": "abc"}


def test_a_folder_is_read_without_the_zoo_and_what_is_fetched(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path, "llama", 1)
    subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], check=True, timeout=120)
