"""A Hydra config loader with a cache: each file is read once, each group of files is merged once, and which files a
command line chooses is found once for all values that it may set.

The runs of a sweep differ in a few groups only. Hydra's own loader reads and merges every file again for each run,
which took most of the time of `dapa plan`. Here Hydra's code still does the merging; this module caches the results.

Hydra has no public API for this, nor for listing a sweep's runs. Therefore this module, `compose` and `launch` use
Hydra's internals, and no other module does. A test names the Hydra version that they were written for.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathElement, SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Node

from dapa_exp.cli.options import register_options
from dapa_exp.sweep.job import Job

CONFIG_NAME = "config"
SEARCH_PATH = "hydra.searchpath"
_HEADS = "HYDRA_REMOVE_TOP_LEVEL_DEFAULTS"
"""The flag with which Hydra marks a config that still holds its defaults list."""

_FileKey = tuple[str, str | None, bool]
"""The cache key of a file: its path, the config key under which it is placed, and whether it is the main file."""


def conf_dir() -> Path:
    """The folder of the YAML files: inside the package if installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


class Composer(ConfigLoaderImpl):
    """Loads the configs of one command line. A file that changes after its first use is not read again."""

    def __init__(self, config_dir: str | None = None, more: Sequence[str] = ()) -> None:
        """`config_dir` is looked into before our own files, `more` (hydra.searchpath) after them."""
        version.setbase("1.3")  # of whose behaviour Hydra would else warn
        register_options(conf_dir(), config_dir)
        Plugins.instance()  # finds our launcher, whose config the defaults list names
        path = create_config_search_path(str(conf_dir()))
        schema = SearchPathQuery(provider="schema")
        if config_dir:
            path.prepend(provider="command-line", path=f"file://{os.path.abspath(config_dir)}", anchor=schema)
        for place in more:
            path.get_path().insert(-1, SearchPathElement(f"{SEARCH_PATH} in command-line", place))
        super().__init__(config_search_path=path)
        self.config_dir = config_dir
        self.planned: dict[tuple[str, ...], Job] = {}
        """The checked runs of a sweep, by their overrides."""
        self._forget()

    def _forget(self) -> None:
        self._repository = CachingConfigRepository(self.repository)
        self._overrides: dict[str, Override] = {}
        self._files: dict[_FileKey, ConfigResult] = {}
        self._groups: dict[tuple[str, tuple[_FileKey, ...]], Node] = {}
        self._options: dict[tuple[str, ObjectType | None], list[str]] = {}
        self._chosen: dict[tuple[Any, ...], DefaultsList] = {}
        self._changed: set[str] = set()
        self._only: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the cache, for launchers that send the composer to other processes."""
        kept = ("config_search_path", "repository", "config_dir", "planned")
        return {key: value for key, value in vars(self).items() if key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        register_options(conf_dir(), self.config_dir)
        self._forget()

    def parse(self, word: str) -> Override:
        """Parse one override. Raises HydraException if the word is not an override."""
        if word not in self._overrides:
            self._overrides[word] = OverridesParser.create(config_loader=self).parse_overrides([word])[0]
        return self._overrides[word]

    def view(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        """Compose a config for reading only. It shares parts with other views, and the next call may change it."""
        with _faster_hydra(self._defaults_list):
            return super().load_configuration(CONFIG_NAME, list(overrides), mode)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a config that the caller may change. The parameters are Hydra's."""
        with _faster_hydra(self._defaults_list):
            found = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        return copy.deepcopy(found)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one run of a sweep, with the folder that `compose` planned for it."""
        found = super().load_sweep_config(master_config, sweep_overrides)
        if job := self.planned.get(tuple(sweep_overrides)):
            found.hydra.sweep.dir, found.hydra.sweep.subdir = str(job.folder.parent.absolute()), job.folder.name
        return found

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """The options of a group. Files whose names begin with "_" are shared defaults, not options."""
        asked = group_name, results_filter
        if asked not in self._options:
            found = self._repository.get_group_options(group_name, results_filter)
            self._options[asked] = [name for name in found if not name.startswith("_")]
        return list(self._options[asked])

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = [self.parse(word) for word in overrides]
        self._changed = {"hydra", *(word.key_or_group.split(".")[0] for word in parsed if not self._chooses(word))}
        return parsed, self._repository

    def _chooses(self, override: Override) -> bool:
        """Whether an override chooses a group's file, and does not set a value."""
        value = None if override.is_sweep_override() else override.value()
        return not isinstance(value, dict) and self._repository.group_exists(override.key_or_group)

    def _defaults_list(
        self,
        repo: IConfigRepository,
        config_name: str | None,
        overrides_list: list[Override],
        prepend_hydra: bool,
        skip_missing: bool,
    ) -> DefaultsList:
        """The files that overrides choose, and the overrides that set values. The parameters are Hydra's."""
        choices = [word for word in overrides_list if self._chooses(word)]
        known = config_name, skip_missing, *(word.input_line for word in choices)
        if known not in self._chosen:
            self._chosen[known] = create_defaults_list(repo, config_name, choices, prepend_hydra, skip_missing)
        values = [word for word in overrides_list if not (word.is_sweep_override() or self._chooses(word))]
        return replace(self._chosen[known], config_overrides=values)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """Merge the files of a defaults list. Each top-level key is merged once for each combination of its files."""
        files: dict[str, list[ResultDefault]] = {}
        for default in defaults:
            loaded = self._file(default, repo)
            for key in _keys(loaded.config):
                files.setdefault(key, []).append(default)
        root = OmegaConf.create()
        for key, chosen in files.items():
            node = self._group(key, chosen, repo)
            if node is None:
                return super()._compose_config_from_defaults_list(defaults, repo)
            node = copy.deepcopy(node) if key in self._changed else node
            node._set_parent(root)
            root.__dict__["_content"][key] = node
        return root

    def _group(self, key: str, files: Sequence[ResultDefault], repo: IConfigRepository) -> Node | None:
        """The merged value of one top-level key. None if it refers to other keys: that needs the whole config."""
        known = key, tuple(map(_file_key, files))
        if known not in self._groups:
            self._only = key
            try:
                merged = super()._compose_config_from_defaults_list(list(files), repo)
            finally:
                self._only = None
            if key != "hydra" and _refers(OmegaConf.to_container(merged)):
                return None
            node = merged._get_node(key)
            assert isinstance(node, Node)
            self._groups[known] = node
        return self._groups[known]

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        """A copy of a file's content for Hydra to merge. While `_group` merges one key, only that key."""
        loaded = copy.copy(self._file(default, repo))
        if self._only is None:
            loaded.config = copy.deepcopy(loaded.config)
        else:
            assert isinstance(loaded.config, DictConfig)
            loaded.config = OmegaConf.masked_copy(loaded.config, [self._only])
        return loaded

    def _file(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        part = _file_key(default)
        if part not in self._files:
            self._files[part] = super()._load_single_config(default, repo)
        return self._files[part]


def _file_key(default: ResultDefault) -> _FileKey:
    assert default.config_path is not None
    return default.config_path, default.package, default.primary


def _keys(config: Any) -> list[str]:
    assert isinstance(config, DictConfig)
    return [str(key) for key in config if not (key == "defaults" and config._get_flag(_HEADS))]


def _refers(value: Any) -> bool:
    """Whether a config holds interpolations, such as ${pair.name}."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list):
        return any(map(_refers, value))
    return isinstance(value, str) and "${" in value


@contextmanager
def _faster_hydra(find: Callable[..., DefaultsList]) -> Iterator[None]:
    """Have Hydra `find` its defaults lists, and stop it from doing two things that take most of the time of each.

    It makes a map of all choices for each file; it needs the map only for a default that refers to another group's
    choice, such as `- x: ${pair}`. And it parses its own version for each default.
    """
    make, parse = defaults_list._create_interpolation_map, version._get_version

    def where_needed(overrides: Any, defaults: Any, self_added: bool) -> Any:
        needed = any(not default.is_self() and default.is_interpolation() for default in defaults)
        return make(overrides, defaults, self_added) if needed else None

    defaults_list._create_interpolation_map = where_needed  # type: ignore[assignment]
    version._get_version = _get_version
    config_loader_impl.create_defaults_list = find
    try:
        yield
    finally:
        config_loader_impl.create_defaults_list = create_defaults_list
        defaults_list._create_interpolation_map, version._get_version = make, parse


_get_version = cache(version._get_version)


def hydra_message(error: Exception) -> str:
    """What an error of Hydra says, in one line and without the folders that it looked into."""
    said = str(error).split("\nConfig search path:")[0]
    return " ".join(line.strip() for line in said.splitlines() if line.strip())
