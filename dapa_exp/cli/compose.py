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

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.composer import CONFIG_NAME, SEARCH_PATH, Composer, hydra_message
from dapa_exp.cli.origins import Files
from dapa_exp.cli.overrides import given_params, sound_overrides, with_added_keys
from dapa_exp.cli.pair_list import take_pairs
from dapa_exp.config.problems import ConfigError, checked_config, unmeasurable
from dapa_exp.config.schema import Config
from dapa_exp.preflight.machine import this_machine
from dapa_exp.record.identity import identity, run_folder
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import each_once

_ONE_OF = ("run", "multirun", "cfg", "info", "shell_completion")
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
    words = sound_overrides(composer, args.overrides, problems)
    try:
        composed = _compose(composer, words, args.multirun, pairs, problems)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(hydra_message(error))
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
    params, words = given_params(composer, words, problems)
    words = with_added_keys(composer, words)
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
    swept = sound_overrides(composer, [f"{key}={value}" for key, value in params.items()], problems)
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
        problems.append(hydra_message(error))
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
        problems.append(hydra_message(error))
        return None
    config, wrong = checked_config(body)
    if config is None:
        files = Files(composer, cfg, overrides)
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
        problems.append(hydra_message(error))
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
