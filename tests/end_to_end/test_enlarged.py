"""A run of a miniature in a larger shape: made where it is missing, and never taken for a real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import conf_dir
from dapa_exp.cli.dispatch import main
from dapa_exp.zoo import store
from dapa_exp.zoo.enlarge import layer_places
from dapa_exp.zoo.recipe import Enlarged, find
from tests.commands import Said
from tests.settings import quick

pytestmark = pytest.mark.slow

SHAPE = "num_hidden_layers=11,hidden_size=128,head_dim=32"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own that holds the pair's miniatures."""
    built = [store.path(name) for name in ("llama-small-base", "llama-small-chat", "llama-small-style")]
    (tmp_path / "cache" / "zoo").mkdir(parents=True)
    for folder in built:
        (tmp_path / "cache" / "zoo" / folder.name).symlink_to(folder)
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_enlarged_pair_is_made_run_and_marked(cache: Path, here: Callable[..., Said], tmp_path: Path) -> None:
    words = (
        "pair=mini-llama-small-style",
        "family.made_here=false",  # the checkpoints say so themselves
        "pair.name=enlarged",
        f'family.teacher.id="zoo:llama-small-chat@{SHAPE}"',
        f'pair.student.id="zoo:llama-small-style@{SHAPE}"',
        "runtime.dtype=bfloat16",
    )
    done = here(*quick(*words))
    assert done.code == 0, done.err
    (run,) = (tmp_path / "single").glob("enlarged-*")
    record = json.loads((run / "record.json").read_text())
    assert record["pair"]["made_here"]
    assert record["pair"]["num_layers"] == 11
    live = [f"layers.{layer}.mlp" for layer in layer_places(8, 11)]
    assert record["search"]["status"] == "certified"
    assert set(record["search"]["units_found"]) <= set(live)
    assert "enlarged †" in done.out
    assert main(["export", str(run), str(tmp_path / "aligned")]) == 0
    assert "**Made here**" in (tmp_path / "aligned" / "README.md").read_text()
    assert len(list((cache / "zoo").glob("*@*/manifest.json"))) == 2


def test_the_enlarged_pairs_that_ship_are_named_as_such() -> None:
    pairs = [file.stem for file in (conf_dir() / "pair").glob("enlarged-*.yaml")]
    configs = [job.config for job in jobs(["-m", f"pair={','.join(pairs)}"])]
    assert {config.family.model_type for config in configs} == {"llama", "mistral", "gemma"}
    for config in configs:
        models = (config.family.teacher, config.pair.student)
        assert all(isinstance(find(model.zoo_name or ""), Enlarged) for model in models)
        assert config.pair.name in pairs
        assert config.family.made_here
        assert not config.pair.paper17
