"""Composes and checks the config of every run of a command line. Each is composed once, and no run is started."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.cli.composer import CONFIG_NAME, SEARCH_PATH, Composer, conf_dir
from dapa_exp.cli.pair_list import take_pairs
from dapa_exp.config.problems import ConfigError, checked_config, unknown_key, unmeasurable
from dapa_exp.config.schema import Config
from dapa_exp.preflight.machine import this_machine
from dapa_exp.record.identity import identity, run_folder
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import each_once

_ONE_OF = ("run", "multirun", "cfg", "info", "shell_completion")
_PARAMS = "hydra.sweeper.params"
_BASIC = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"

_checked: ContextVar[tuple[Config, str] | None] = ContextVar("checked", default=None)
"""The checked config, and the identity, of the run whose folder name is being computed: neither is computed again."""


@dataclass(frozen=True)
class Composed:
    """The runs of a command line, and everything needed to start them without composing again."""

    jobs: list[Job]
    composer: Composer
    config: DictConfig
    """Hydra's config of the single run, or of a sweep without the overrides that differ between runs."""
    multirun: bool


def register_resolvers() -> None:
    """Register the resolvers that the YAML files use: ours, and Hydra's own such as `${now:%Y}`."""
    setup_globals()
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)
    OmegaConf.register_new_resolver("this_machine", this_machine, replace=True)


def parse_words(argv: Sequence[str]) -> Namespace:
    """Parse a command line with Hydra's parser. Unlike Hydra, it allows a flag after an override.

    Raises DapaError for flags that contradict each other or that `dapa` does not support.
    """
    parser = get_args_parser()
    parser.prog = "dapa run"
    words = list(argv)
    kinds = next(action.choices for action in parser._actions if action.dest == "info") or ()
    for place, word in reversed(list(enumerate(words))):  # --info's value is optional, and must not swallow an override
        if word in ("--info", "-i") and (place + 1 == len(words) or words[place + 1] not in kinds):
            words.insert(place + 1, "all")
    args = parser.parse_intermixed_args(words)
    if sum(bool(getattr(args, flag)) for flag in _ONE_OF) > 1:
        flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in _ONE_OF)
        raise DapaError(f"only one of {flags} can be given")
    if args.resolve and not (args.cfg or args.help):
        raise DapaError("--resolve goes with --cfg or --help")
    for flag in ("config-name", "config-path", "experimental-rerun"):  # they would start a config that was not checked
        if getattr(args, flag.replace("-", "_")):
            raise DapaError(f"--{flag} is not taken: files of your own go to a folder that --config-dir names")
    if args.config_dir and not Path(args.config_dir).is_dir():  # Hydra's loader ignores a missing folder
        raise DapaError(f"--config-dir {args.config_dir}: no such folder")
    return args


def only_shows(argv: Sequence[str]) -> bool:
    """Whether the command line asks Hydra to print something (help, a config, completions) and not to run."""
    args = parse_words(argv)
    return bool(args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)


def make_composer(args: Namespace) -> Composer:
    """The composer for the configs of a command line."""
    register_resolvers()
    return Composer(args.config_dir, _search_path(args.overrides))


def check_config(cfg: DictConfig) -> Config:
    """Validate a composed config. Raises ConfigError with all of its problems."""
    body = _body(cfg)
    config, problems = checked_config(body)
    if config is None:
        raise ConfigError(f"{'.'.join(path)}: {message}" for path, message in problems)
    return config


def jobs(argv: Sequence[str]) -> list[Job]:
    """The runs that `dapa run ARGV` would start, each once, composed and checked. Raises DapaError like `compose`."""
    return each_once(compose(argv).jobs)


def compose(argv: Sequence[str]) -> Composed:
    """All runs that `dapa run ARGV` would start, composed and checked, and the data that Hydra needs to start them.

    Raises ConfigError with the problems of all runs together: unknown groups, options and keys, values out of range,
    and contradictions. Each problem names its file, or "command line".
    """
    args = parse_words(argv)
    args.overrides, pairs = take_pairs(args.overrides, args.multirun)
    composer = make_composer(args)
    problems: list[str] = []
    words = _sound_overrides(composer, args.overrides, problems)
    try:
        composed = _compose(composer, words, args.multirun, pairs, problems)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_first_line(error))
    if problems:
        raise ConfigError(problems)
    return composed


def note_unswept(planned: Sequence[Job]) -> None:
    """Tell the user if an experiment with a sweep was chosen without -m, because Hydra then starts a single run."""
    if keys := planned[0].unswept:
        print(f"one run only: the experiment sweeps {', '.join(keys)} with -m", file=sys.stderr, flush=True)


def note_unmeasurable(planned: Sequence[Job]) -> None:
    """Tell the user if a metric will be null because no judge of the run can see it."""
    for why in dict.fromkeys(unmeasurable(job.config) for job in planned):
        if why:
            print(f"note: evaluate.metrics: {why}", file=sys.stderr, flush=True)


def _compose(
    composer: Composer, words: list[str], multirun: bool, pairs: Sequence[list[str]], problems: list[str]
) -> Composed:
    params, words = _given_params(composer, words, problems)
    words = _with_added_keys(composer, words)
    common = composer.load_configuration(CONFIG_NAME, words, RunMode.MULTIRUN)
    if common.hydra.sweeper._target_ != _BASIC:
        problems.append(
            "hydra/sweeper: only basic is taken: all runs of a sweep are checked before the first starts,"
            " and other sweepers choose runs while the sweep goes on"
        )
    if not multirun and common.hydra.mode != RunMode.MULTIRUN:
        return _single(composer, words, problems)
    mode = f"hydra.mode={RunMode.MULTIRUN.name}"
    common = composer.load_configuration(CONFIG_NAME, [*words, mode], RunMode.MULTIRUN)
    if (most := common.hydra.sweeper.max_batch_size) is not None and most < 1:
        problems.append(f"hydra.sweeper.max_batch_size: is {most}; it should be at least 1")
    with open_dict(common):
        common.hydra.mode = RunMode.MULTIRUN
        params = {**(common.hydra.sweeper.get("params") or {}), **params}
        common.hydra.sweeper.params = params
    swept = _sound_overrides(composer, [f"{key}={value}" for key, value in params.items()], problems)
    given = OmegaConf.to_container(common.hydra.overrides, resolve=False)
    assert isinstance(given, dict)
    every = [composer.parse(word) for word in [*swept, *given["task"]]]
    found: list[Job] = []
    runs = [[*pair, *run] for pair in pairs for run in BasicSweeper.split_arguments(every, None)[0]]
    for number, run in enumerate(runs):
        cfg = _view(composer, [*given["hydra"], *run], problems)
        if cfg is None:
            continue
        cfg.hydra.job.num = number
        with _known_to_hydra(cfg, common):
            job = _job(composer, cfg, run, ("hydra.sweep.dir", "hydra.sweep.subdir"), problems)
        if job:
            composer.planned[tuple(run)] = job
            found.append(job)
    return Composed(found, composer, common, True)


def _single(composer: Composer, words: list[str], problems: list[str]) -> Composed:
    several = [word for word in words if composer.parse(word).is_sweep_override()]
    if several:
        hint = "several values need -m, which makes a sweep of them; a list is written KEY=[a,b]"
        raise ConfigError([*problems, *(f"command line: {word}: {hint}" for word in several)])
    cfg = composer.load_configuration(CONFIG_NAME, [*words, f"hydra.mode={RunMode.RUN.name}"], RunMode.RUN)
    with _known_to_hydra(cfg, cfg):
        job = _job(composer, cfg, words, ("hydra.run.dir",), problems)
    if job is None:
        return Composed([], composer, cfg, False)
    cfg.hydra.run.dir = str(job.folder)
    unswept = set(map(str, cfg.hydra.sweeper.get("params") or ())) - {word.partition("=")[0] for word in words}
    return Composed([replace(job, unswept=tuple(sorted(unswept)))], composer, cfg, False)


def _view(composer: Composer, overrides: list[str], problems: list[str]) -> DictConfig | None:
    """Compose a config to look at. If that fails, add a problem to `problems` and return None."""
    try:
        return composer.view(overrides, RunMode.RUN)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_first_line(error))
        return None


def _job(
    composer: Composer, cfg: DictConfig, overrides: list[str], places: Sequence[str], problems: list[str]
) -> Job | None:
    """The checked run of a composed config. If the config is wrong, add its problems to `problems` and return None.

    The values of the keys in `places` together name the run's folder.
    """
    try:
        body = _body(cfg)
    except OmegaConfBaseException as error:
        problems.append(_first_line(error))
        return None
    config, wrong = checked_config(body)
    if config is None:
        files = _Files(composer, cfg, overrides)
        problems += [f"{files.origin(path)}: {'.'.join(path)}: {message}" for path, message in wrong]
        return None
    named = any(word.lstrip("+").startswith("evaluate.metrics=") for word in overrides)
    if named and (why := unmeasurable(config)):  # of metrics that nobody named, the record says why one is null
        problems.append(f"command line: evaluate.metrics: {why}")
        return None
    try:
        known = identity(config)
    except DapaError as error:  # a missing model or prompt file
        problems.append(str(error))
        return None
    token = _checked.set((config, known))
    try:
        folder = Path(*(str(OmegaConf.select(cfg, place, throw_on_missing=True)) for place in places))
    except OmegaConfBaseException as error:  # the folder's name uses a value unknown before the run: hydra.job.id
        problems.append(_first_line(error))
        return None
    finally:
        _checked.reset(token)
    return Job(config, tuple(overrides), known, folder)


@contextmanager
def _known_to_hydra(cfg: DictConfig, common: DictConfig) -> Iterator[None]:
    """Set the config that `${hydra:…}` reads, and the time of `${now:…}`: the same for all runs of a sweep."""
    instance = HydraConfig.instance()
    before, instance.cfg = instance.cfg, cfg  # type: ignore[assignment]
    OmegaConf.copy_cache(common, cfg)
    try:
        yield
    finally:
        OmegaConf.copy_cache(cfg, common)
        instance.cfg = before


def _search_path(words: Sequence[str]) -> list[str]:
    """The folders that a command line adds with hydra.searchpath. Raises DapaError if they are not a list."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == SEARCH_PATH:
            try:
                places = OverridesParser.create().parse_overrides([word])[0].value()
            except HydraException:
                return []  # reported later with all other problems
            if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
                raise DapaError(f"{SEARCH_PATH}: is {value}; a list of folders is wanted: [file:///my/conf]")
            return places
    return []


def _given_params(composer: Composer, words: Sequence[str], problems: list[str]) -> tuple[dict[str, str], list[str]]:
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


def _with_added_keys(composer: Composer, words: Sequence[str]) -> list[str]:
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


def _sound_overrides(composer: Composer, words: Sequence[str], problems: list[str]) -> list[str]:
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
        return f"'{word}': {_first_line(error)}"
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return None
    groups = composer.list_groups("")
    if key in groups:
        if key in Config.model_fields and override.package is None and (override.is_add() or override.is_force_add()):
            return f"{word}: a {key} is chosen without it; {word.lstrip('+')} chooses another"
        options = composer.get_group_options(key)
        listed = ", ".join(options)
        choices = _choices(override)
        if override.is_sweep_override() and not choices:
            return f"{word}: matches no {key}; there are: {listed}"
        for choice in choices:
            if choice not in options:
                return f"{key}={choice}: no such {key}.{nearest(choice, options)} There are: {listed}"
        return None
    return unknown_key(key.split(".")) if "." in key else _top_level(key, groups)


def _top_level(key: str, groups: list[str]) -> str | None:
    if key in Config.model_fields:
        return None
    known = sorted({*groups, *Config.model_fields} - {"hydra"})
    return f"{key}: no such group or key.{nearest(key, known)} There are: {', '.join(known)}"


def _choices(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(map(str, override.sweep_string_iterator()))
    value = override.value()
    if value is None:
        return [] if override.is_delete() else ["null"]
    if isinstance(value, dict):  # keys of the group, not a choice of its file
        return []
    return list(map(str, value)) if isinstance(value, list) else [str(value)]


class _Files:
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


def _body(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain Python values, without the key `hydra`."""
    return {str(key): "???" if OmegaConf.is_missing(cfg, key) else _plain(cfg[key]) for key in cfg if key != "hydra"}


def _plain(value: object) -> object:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _run_folder(*, _root_: DictConfig) -> str:
    if (checked := _checked.get()) is None:
        config = check_config(_root_)
        checked = config, identity(config)
    return run_folder(*checked)


def _first_line(error: Exception) -> str:
    said = str(error).split("\nConfig search path:")[0]
    return " ".join(line.strip() for line in said.splitlines() if line.strip())
