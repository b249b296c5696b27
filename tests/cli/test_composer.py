"""What the composer remembers between runs changes no config, and saves reading and merging."""

from __future__ import annotations

from typing import Any

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import OmegaConf

from dapa_exp.cli import composer as module
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import Composer, conf_dir
from tests.settings import OPTIONS

WORDS = [[], *([option, "search.threshold=0.7", "hydra.verbose=true"] for option in OPTIONS)]


def test_internals_are_those_of_the_hydra_that_compose_was_written_against() -> None:
    assert hydra.__version__.startswith("1.3."), (
        "read cli/composer.py, compose.py and launch.py again before allowing another Hydra"
    )


def test_what_is_remembered_between_runs_changes_no_config() -> None:
    """Hydra's own loader, which composes each config from its files, finds the same, run after run."""
    composer = Composer()
    plain = ConfigLoaderImpl(composer.get_search_path())
    words = WORDS + [[f"+experiment={file.stem}"] for file in sorted((conf_dir() / "experiment").glob("*.yaml"))]
    for overrides in words + words[::5]:
        expected = plain.load_configuration("config", list(overrides), RunMode.RUN)
        assert OmegaConf.to_yaml(composer.view(overrides, RunMode.RUN)) == OmegaConf.to_yaml(expected), overrides
    own = composer.load_configuration("config", ["search.threshold=0.7"], RunMode.RUN)
    own.search.threshold = 0.1
    assert composer.view(["search.threshold=0.7"], RunMode.RUN).search.threshold == 0.7


def test_which_files_are_chosen_is_found_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[Any]] = []
    find = module.create_defaults_list

    def noted(*asked: Any) -> Any:
        found.append(asked[2])
        return find(*asked)

    monkeypatch.setattr(module, "create_defaults_list", noted)
    planned = jobs(["-m", "granularity=mlp,layer", "search.seed=range(0,6)", "pair=mini-mistral-base"])
    assert [(job.config.granularity.name, job.config.search.seed) for job in planned] == [
        (granularity, seed) for granularity in ("mlp", "layer") for seed in range(6)
    ]
    assert len(found) < 6


def test_a_file_is_read_once_and_a_group_is_merged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = FileConfigSource.load_config

    def noted(self: FileConfigSource, config_path: str) -> ConfigResult:
        read.append(config_path)
        return load(self, config_path)

    monkeypatch.setattr(FileConfigSource, "load_config", noted)
    merged: list[str] = []
    merge = ConfigLoaderImpl._compose_config_from_defaults_list

    def told(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        merged.append(defaults[-1].config_path)
        return merge(self, defaults, repo)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", told)
    found = jobs(["-m", "+experiment=paper17_ablate_projection"])
    assert len(found) == 17 * 6
    assert len(read) == len(set(read))
    assert len(merged) < 17 + 6 + 3 + 20  # pairs, granularities, families, and each other key of the config
