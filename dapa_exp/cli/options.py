"""Makes every registered algorithm, method and judge an option of its config group, also without a file in `conf/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from dapa_exp.base.plugins import add_plugins
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.registries import ALGORITHMS, METHODS

PLUGINS = "plugins"
"""The folder in `--config-dir` whose Python files are imported as plugins. No others are imported."""


def register_options(conf: Path, config_dir: str | None) -> None:
    """Register every algorithm, transplant method and judge with Hydra, also those of `config_dir`/plugins/*.py.

    If `conf` or `config_dir` has a file of the same name, that file is used.
    """
    if config_dir and (own := Path(config_dir) / PLUGINS).is_dir():
        add_plugins(own)
    options: dict[tuple[str, str], dict[str, Any]] = {}
    for name, algorithm in ALGORITHMS:
        options["search", name] = {"defaults": ["_default", "_self_"], "algorithm": name, **algorithm.defaults}
    for name, method in METHODS:
        fields = method.Settings.model_fields.items()
        known = {key: field.get_default(call_default_factory=True) for key, field in fields if not field.is_required()}
        options["transplant", name] = {**known, "method": name}
    for name, settings in JudgeSettings.registry:
        options["judge", name] = settings.defaults(name)
    for (group, name), node in options.items():
        folders = [conf, *([Path(config_dir)] if config_dir else [])]
        if not any((folder / group / f"{name}.yaml").is_file() for folder in folders):
            ConfigStore.instance().store(group=group, name=name, node=node, provider="dapa_exp")
