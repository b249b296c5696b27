"""From command-line words to checked configs: composes every run of a sweep without starting one.

Hydra offers no public way to list a sweep's runs, so this file, and no other, uses its internals
(a test names the Hydra version they were read in).
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.cli.options import register_options
from dapa_exp.config.problems import ConfigError, problems_of, unknown_key, unmeasurable
from dapa_exp.config.schema import Config
from dapa_exp.record.identity import identity, run_folder
from dapa_exp.sweep.job import Job

CONFIG_NAME = "config"


def conf_dir() -> Path:
    """The YAML files: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register_resolvers() -> None:
    """Make `${run_folder:}` available to the YAML files."""
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)


def only_shows(argv: Sequence[str]) -> bool:
    """Whether Hydra is asked to print something (help, a config, completions) rather than to run."""
    args = _parsed(argv)
    return bool(args.help or args.hydra_help or args.cfg or args.info or args.shell_completion)


def flags_first(argv: Sequence[str]) -> list[str]:
    """The same words in the order that Hydra wants: it takes no override after a flag that follows an override."""
    overrides = _parsed(argv).overrides
    return [word for word in argv if word not in overrides] + [word for word in argv if word in overrides]


def config_dir(argv: Sequence[str]) -> str | None:
    """The user's own folder of options and plugins, where the words name one."""
    return _parsed(argv).config_dir


def _parsed(argv: Sequence[str]) -> Namespace:
    return get_args_parser().parse_intermixed_args(list(argv))


def typed(cfg: DictConfig) -> Config:
    """The checked form of a composed config. Raises ConfigError naming all of its problems."""
    body = _body(cfg)
    if problems := problems_of(body):
        raise ConfigError(f"{'.'.join(path)}: {message}" for path, message in problems)
    return Config.model_validate(body)


def jobs(argv: Sequence[str]) -> list[Job]:
    """Every run that `dapa run ARGV` would start, composed and checked.

    Raises ConfigError with the problems of all runs together: unknown groups, options and keys,
    values out of range, and contradictions, each with its file or "command line".
    """
    args = _parsed(argv)
    for flag in ("config-name", "config-path", "experimental-rerun"):  # Hydra would carry out what nobody looked at
        if getattr(args, flag.replace("-", "_")):
            raise DapaError(f"--{flag} is not taken: files of your own go to a folder that --config-dir names")
    if args.config_dir and not Path(args.config_dir).is_dir():  # of which Hydra's loader makes nothing
        raise DapaError(f"--config-dir {args.config_dir}: no such folder")
    with _loader(args.config_dir) as loader:
        words, problems = _sound_overrides(loader, args.overrides)
        runs = _expand(loader, words, args.multirun, problems)
        found: list[Job] = []
        for run in runs:
            job = _job(loader, run, args.multirun, problems)
            if job:
                found.append(job)
    if problems:
        raise ConfigError(problems)
    return found


def note_unswept(planned: Sequence[Job]) -> None:
    """Say so where an experiment's sweep was asked for without -m, of which Hydra makes a single run."""
    if keys := planned[0].unswept:
        print(f"one run only: the experiment sweeps {', '.join(keys)} with -m", file=sys.stderr, flush=True)


def note_unmeasurable(planned: Sequence[Job]) -> None:
    """Say so where a metric will be null, since no judge can see it."""
    for why in dict.fromkeys(unmeasurable(job.config) for job in planned):
        if why:
            print(f"note: evaluate.metrics: {why}", file=sys.stderr, flush=True)


def _job(loader: ConfigLoaderImpl, overrides: list[str], multirun: bool, problems: list[str]) -> Job | None:
    try:
        cfg = loader.load_configuration(CONFIG_NAME, overrides, RunMode.RUN)
        body = _body(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_first_line(error))
        return None
    wrong = problems_of(body)
    if wrong:
        files = _Files(loader, cfg, overrides)
        problems += [f"{files.origin(path)}: {'.'.join(path)}: {message}" for path, message in wrong]
        return None
    config = Config.model_validate(body)
    named = any(word.lstrip("+").startswith("evaluate.metrics=") for word in overrides)
    if named and (why := unmeasurable(config)):  # of metrics that nobody named, the record says why one is null
        problems.append(f"command line: evaluate.metrics: {why}")
        return None
    try:
        known = identity(config)
        place = cfg.hydra.run.dir if not multirun else f"{cfg.hydra.sweep.dir}/{cfg.hydra.sweep.subdir}"
    except DapaError as error:  # a model or a prompt file that is not there
        problems.append(str(error))
        return None
    except OmegaConfBaseException as error:  # a folder named by what is not known beforehand, such as hydra.job.num
        problems.append(_first_line(error))
        return None
    swept = {} if multirun else cfg.hydra.sweeper.get("params") or {}
    unswept = set(map(str, swept)) - {word.partition("=")[0] for word in overrides}
    return Job(config, tuple(overrides), known, Path(place), tuple(sorted(unswept)))


@contextmanager
def _loader(extra_dir: str | None) -> Iterator[ConfigLoaderImpl]:
    register_resolvers()
    register_options(conf_dir(), extra_dir)
    search_path = create_config_search_path(str(conf_dir()))
    if extra_dir:
        search_path.prepend(provider="command-line", path=f"file://{os.path.abspath(extra_dir)}")
    Plugins.instance()  # finds our launcher, whose config the defaults list names
    GlobalHydra.instance().clear()
    yield ConfigLoaderImpl(config_search_path=search_path)


def _expand(loader: ConfigLoaderImpl, words: list[str], multirun: bool, problems: list[str]) -> list[list[str]]:
    """The overrides of each run: a sweep's product of choices, else the one given."""
    try:
        if not multirun:
            return [words]
        plain = [w for w in words if not _parse(loader, w).is_sweep_override()]
        cfg = loader.load_configuration(CONFIG_NAME, plain, RunMode.MULTIRUN)
        params = cfg.hydra.sweeper.params or {}
        sweep = _sound_overrides(loader, [f"{k}={v}" for k, v in params.items()] + words, problems)[0]
        parsed = [_parse(loader, w) for w in sweep]
        return BasicSweeper.split_arguments(parsed, None)[0]
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_first_line(error))
        return []


def _sound_overrides(
    loader: ConfigLoaderImpl, words: Sequence[str], problems: list[str] | None = None
) -> tuple[list[str], list[str]]:
    """The overrides that name existing groups, options and keys, and what is wrong with the others."""
    problems = [] if problems is None else problems
    sound: list[str] = []
    for word in words:
        wrong = _problem_of(loader, word)
        if wrong:
            problems.append(f"command line: {wrong}")
        else:
            sound.append(word)
    return sound, problems


def _problem_of(loader: ConfigLoaderImpl, word: str) -> str | None:
    try:
        override = _parse(loader, word)
    except HydraException as error:
        return f"'{word}': {_first_line(error)}"
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return None
    groups = loader.list_groups("")
    if key in groups:
        options = [str(o) for o in loader.get_group_options(key) if not o.startswith("_")]
        listed = ", ".join(options)
        choices = _choices(override)
        if override.is_sweep_override() and not choices:
            return f"{word}: matches no {key}; there are: {listed}"
        for choice in choices:
            if choice not in options:
                return f"{key}={choice}: no such {key};{nearest(choice, options)} there are: {listed}"
        return None
    return unknown_key(key.split(".")) if "." in key else _top_level(key, groups)


def _top_level(key: str, groups: list[str]) -> str | None:
    if key in Config.model_fields:
        return None
    known = sorted({*groups, *Config.model_fields} - {"hydra"})
    return f"{key}: no such group or key;{nearest(key, known)} there are: {', '.join(known)}"


def _choices(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(map(str, override.sweep_string_iterator()))
    value = override.value()
    if value is None:
        return [] if override.is_delete() else ["null"]
    return [str(value)]


def _parse(loader: ConfigLoaderImpl, word: str) -> Override:
    return OverridesParser.create(config_loader=loader).parse_overrides([word])[0]


class _Files:
    """Finds which file, or the command line, a config key came from."""

    def __init__(self, loader: ConfigLoaderImpl, cfg: DictConfig, overrides: Sequence[str]) -> None:
        self._keys = [_parse(loader, word).key_or_group for word in overrides]
        chosen = {key: choice for key, choice in cfg.hydra.runtime.choices.items() if choice}
        self._choices = {key.split("@")[0]: choice for key, choice in chosen.items()}
        # Files of groups that are put somewhere else, by where: prompt_set@dataset.search is at dataset.search.
        placed = [(*key.split("@"), choice) for key, choice in chosen.items() if "@" in key]
        self._placed = {tuple(place.split(".")): (group, choice) for group, place, choice in placed}
        sources = loader.get_search_path().get_path()
        roots = [s.path.removeprefix("file://") for s in sources if s.path and not s.path.startswith("pkg:")]
        self._roots = [Path(root) for root in roots]

    def origin(self, path: tuple[str, ...]) -> str:
        """Where a value is from; of a group whose values contradict each other, its file and who else had a say."""
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
    plain = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _run_folder(*, _root_: DictConfig) -> str:
    return run_folder(typed(_root_))


def _first_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
