"""Finds the file that a config key came from, for the messages about wrong values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from dapa_exp.cli.composer import CONFIG_NAME, Composer, conf_dir


class Files:
    """Finds the file that a config key came from, or that it came from the command line."""

    def __init__(self, composer: Composer, cfg: DictConfig, overrides: Sequence[str]) -> None:
        self._keys = [composer.parse(word).key_or_group for word in overrides]
        chosen = {key: choice for key, choice in cfg.hydra.runtime.choices.items() if choice}
        elsewhere = {key.split("@")[0]: choice for key, choice in chosen.items() if "@" in key}
        self._choices = elsewhere | {key: choice for key, choice in chosen.items() if "@" not in key}
        # Group files placed under another key, by that key: the file of prompt_set@dataset.search is at dataset.search.
        placed = [(*key.split("@"), choice) for key, choice in chosen.items() if "@" in key]
        self._placed = {tuple(place.split(".")): (group, choice) for group, place, choice in placed}
        sources = composer.get_search_path().get_path()
        roots = [s.path.removeprefix("file://") for s in sources if s.path and not s.path.startswith("pkg:")]
        self._roots = [Path(root) for root in roots]

    def origin(self, path: tuple[str, ...]) -> str:
        """The origin of a value. For a group whose values contradict each other: its file, and any override of them."""
        dotted = ".".join(path)
        if any(dotted == key or dotted.startswith(key + ".") for key in self._keys if "." in key):
            return "command line"
        changed = any(key.startswith(dotted + ".") for key in self._keys)
        return self._written(path) + (" and the command line" if changed else "")

    def _written(self, path: tuple[str, ...]) -> str:
        group, inner = path[0], path[1:]
        candidates = [("experiment", None, path), (group, None, inner)]
        candidates += [(*file, path[len(at) :]) for at, file in self._placed.items() if path[: len(at)] == at]
        for name, choice, keys in candidates:
            file = self._file(name, choice)
            if file and _holds(file, keys):
                return _shown(file)
        default = self._file(group, "_default")
        if default and _holds(default, inner):
            return _shown(default)
        return _shown(self._file(group) or conf_dir() / f"{CONFIG_NAME}.yaml")

    def _file(self, group: str, choice: str | None = None) -> Path | None:
        choice = choice or self._choices.get(group)
        files = [root / group / f"{choice}.yaml" for root in self._roots] if choice else []
        return next((file for file in files if file.is_file()), None)


def _holds(file: Path, keys: Sequence[str]) -> bool:
    node: Any = yaml.safe_load(file.read_text())
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _shown(file: Path) -> str:
    base = conf_dir().parent
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)
