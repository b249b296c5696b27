"""Checks the overrides of a command line one by one, before any config is composed: Hydra would stop at the first."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dapa_exp.base.errors import allowed_names
from dapa_exp.cli.composer import Composer, hydra_message
from dapa_exp.config.problems import unknown_key
from dapa_exp.config.schema import Config

_PARAMS = "hydra.sweeper.params"
_HELP = "dapa run --help"
"""Lists the options of every group."""


def given_params(composer: Composer, words: Sequence[str], problems: list[str]) -> tuple[dict[str, str], list[str]]:
    """The values of hydra.sweeper.params on a command line, and the remaining words. Wrong values join `problems`.

    Hydra itself would stop at the first wrong value.
    """
    params: dict[str, str] = {}
    others: list[str] = []
    for word in words:
        override = composer.parse(word)
        key = override.key_or_group
        if override.is_delete() or not (key == _PARAMS or key.startswith(f"{_PARAMS}.")):
            others.append(word)
            continue
        value = word.partition("=")[2] if override.is_sweep_override() else override.value()
        given = value if key == _PARAMS else {key.removeprefix(f"{_PARAMS}."): value}
        if not isinstance(given, dict):
            problems.append(f"command line: {word}: a dictionary is wanted, such as {{search: 'all,none'}}")
            continue
        for name, choices in given.items():
            if isinstance(choices, (dict, list)):
                problems.append(f"command line: {_PARAMS}: {name} is {choices}; a text is wanted, such as 'all,none'")
            else:
                params[str(name)] = str(choices)
    return params, others


def with_added_keys(composer: Composer, words: Sequence[str]) -> list[str]:
    """The words, with `++` before each key that the chosen files lack: the option of another run may have it.

    Hydra would refuse the whole sweep. Here the config of each run is checked later, so a key that its option lacks is
    a problem of that run.
    """
    sets = {word for word in words if _sets_a_value(composer.parse(word))}
    chosen = composer.view([word for word in words if word not in sets], RunMode.MULTIRUN)
    return [
        f"++{word}" if word in sets and not _has(chosen, composer.parse(word).key_or_group) else word for word in words
    ]


def _has(chosen: DictConfig, key: str) -> bool:
    """Whether a config has a key, even one whose value is still missing."""
    *groups, last = key.split(".")
    place = OmegaConf.select(chosen, ".".join(groups))
    return not isinstance(place, DictConfig) or last in place.keys()  # noqa: SIM118 -- `in place` is false of a missing value


def _sets_a_value(override: Override) -> bool:
    key = override.key_or_group
    return "." in key and override.type is OverrideType.CHANGE and not key.startswith("hydra.")


def sound_overrides(composer: Composer, words: Sequence[str], problems: list[str]) -> list[str]:
    """The overrides with existing groups, options and keys. The problems of all others are added to `problems`."""
    sound: list[str] = []
    for word in words:
        wrong = _problem_of(composer, word)
        if wrong:
            problems.append(f"command line: {wrong}")
        else:
            sound.append(word)
    return sound


def _problem_of(composer: Composer, word: str) -> str | None:
    try:
        override = composer.parse(word)
    except HydraException as error:
        return f"'{word}': {hydra_message(error)}"
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return None
    groups = composer.list_groups("")
    if key in groups:
        if key in Config.model_fields and override.package is None and (override.is_add() or override.is_force_add()):
            return f"{word}: a {key} is chosen without it; {word.lstrip('+')} chooses another"
        options = composer.get_group_options(key)
        choices = _choices(override)
        if override.is_sweep_override() and not choices:
            return f"{word}: matches no {key}.{allowed_names('', options, 'There are', _HELP)}"
        for choice in choices:
            if choice not in options:
                return f"{key}={choice}: no such {key}.{allowed_names(choice, options, 'There are', _HELP)}"
        return None
    return unknown_key(key.split(".")) if "." in key else _top_level(key, groups)


def _top_level(key: str, groups: list[str]) -> str | None:
    if key in Config.model_fields:
        return None
    known = sorted({*groups, *Config.model_fields} - {"hydra"})
    return f"{key}: no such group or key.{allowed_names(key, known, 'There are')}"


def _choices(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(map(str, override.sweep_string_iterator()))
    value = override.value()
    if value is None:
        return [] if override.is_delete() else ["null"]
    if isinstance(value, dict):  # keys of the group, not a choice of its file
        return []
    return list(map(str, value)) if isinstance(value, list) else [str(value)]
