"""What lies where in the folder of a run, of a sweep and of a localisation, and how each file is read.

Nothing here writes, and no file name of these folders is written down anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Config
from dapa_exp.record.journal import Line, read_lines
from dapa_exp.record.schema import Record, damage

T = TypeVar("T")


class _Place:
    """A file or folder of a layout, by its name there. `*` stands for what a caller names."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layout: _Layout, owner: type[_Layout]) -> Path:
        return layout.folder / self.name


class _Layout:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def names(cls) -> list[str]:
        """Of all files and folders, as in `multirun/README.md`: a folder ends in a slash."""
        return [place.name for place in vars(cls).values() if isinstance(place, _Place)]


class Completed(BaseModel):
    """A line of `generations/*.jsonl`."""

    weights: str
    prompt: str
    completion: str
    tokens: int
    cut: bool = False


class Asked(BaseModel):
    """A line of `search.jsonl`, as far as it is read again. Old ones lack what has a default."""

    index: int
    units: list[str]
    score: float
    verdicts: dict[str, str]
    tokens: int
    seconds: float
    at_most: float = 1.0
    prompts: int = 0
    work: dict[str, int] = {}


class Spent(BaseModel):
    """A line of `cost.jsonl`."""

    stage: str
    seconds: float
    tokens: int
    peak_memory_bytes: int


class RunLayout(_Layout):
    """The folder of a run. Of a localisation's, `localise.json` takes the place of `record.json`."""

    config = _Place("config.yaml")
    identity = _Place("identity.json")
    queries = _Place("search.jsonl")
    prior = _Place("prior.json")
    found = _Place("found.json")
    plan = _Place("plan.json")
    proof = _Place("transplant.json")
    _completions = _Place("generations/*.jsonl")
    _metrics = _Place("metrics/*.json")
    neurons = _Place("neurons.safetensors")
    references = _Place("references/")
    cost = _Place("cost.jsonl")
    log = _Place("run.log")
    mirror = _Place("wandb/")
    report = _Place("report/")
    record = _Place("record.json")
    error = _Place("error.json")
    lock = _Place(".lock")
    hydra = _Place(".hydra/")

    def completions(self, *name: str) -> Path:
        """Answers, named by model and prompt set; those of a search, of many hybrids, by "search" alone."""
        return self._named(self._completions, "-".join(name))

    def metric(self, model: str, metric: str) -> Path:
        return self._named(self._metrics, f"{model}-{metric}")

    def verdicts(self, model: str, prompts: str, judge: str) -> Path:
        return self.metric(model, f"{prompts}-{judge}")

    def reference(self, name: str) -> Path:
        return self.references / f"{name}.safetensors"

    @property
    def mirrored(self) -> Path:
        """That the record was sent, and how; it lies with what was sent."""
        return self.mirror / "mirrored.json"

    @property
    def unsent(self) -> Path:
        """Why the last attempt to send it failed."""
        return self.mirror / "failed.json"

    def is_run(self) -> bool:
        """Whether a run was begun here."""
        return any(file.is_file() for file in (self.config, self.queries, self.record, self.error))

    def read_config(self) -> Config:
        """The config that the run was carried out with. Raises DapaError where the folder is not a run's."""
        try:
            return Config.model_validate(_as_meant(self.config_as_written()))
        except ValidationError as error:
            raise DapaError(f"{self.config}: not the config of a run: {damage(error)}") from error

    def config_as_written(self) -> Any:
        """The same, unchecked: also of another version."""
        try:
            return yaml.load(self.config.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        except OSError as error:
            raise DapaError(f"{self.config}: {error.strerror}; this needs the folder of a run") from error
        except (ValueError, yaml.YAMLError) as error:
            raise DapaError(f"{self.config}: not the config of a run: {error}") from error

    def read_record(self) -> Record:
        """The record. Raises DapaError where the run is not finished or its record is damaged."""
        if not self.record.is_file():
            raise DapaError(f"{self.folder}: no {self.record.name}, so the run is not finished")
        try:
            return Record.model_validate_json(self.record.read_bytes())
        except (OSError, ValidationError) as error:
            raise DapaError(f"{self.record}: not a valid record: {damage(error)}") from error

    def read_queries(self) -> list[Line]:
        """The queries of the search so far; none of a run without a search."""
        return read_lines(self.queries, Asked)

    def count_queries(self) -> int | None:
        """How many queries there are; None where the search has not begun. To count them, none is read."""
        return self.queries.read_bytes().count(b"\n") if self.queries.is_file() else None

    def read_completions(self, model: str, prompts: str) -> list[Line]:
        return read_lines(self.completions(model, prompts), Completed)

    def _named(self, places: Path, name: str) -> Path:
        return places.with_name(places.name.replace("*", name))


class SweepLayout(_Layout):
    """The folder of an experiment: of all its runs, whoever asked for them."""

    listing = _Place("sweep.json")
    lock = _Place(".sweep.lock")
    report = _Place("report/")
    localisations = _Place("localise/")

    def read_listing(self) -> list[dict[str, Any]]:
        """The runs that were asked for; none where there is no list. Raises DapaError on a damaged one."""
        return read_json(self.listing, _LISTING).runs if self.listing.is_file() else []

    def runs(self) -> Iterator[Path]:
        """The folders in which a run was begun."""
        return (path for path in sorted(self.folder.iterdir()) if RunLayout(path).is_run())


class LocaliseLayout(RunLayout):
    """The folder of a localisation, which is opened like a run's."""

    localisation = _Place("localise.json")
    _parts = _Place("localise/*.json")

    def part(self, name: str) -> Path:
        """One measurement of it, or its settings."""
        return self._named(self._parts, name)


class _Listing(BaseModel):
    """What `sweep.json` holds."""

    runs: list[dict[str, Any]]


_LISTING = TypeAdapter(_Listing)


def read_json(path: Path, schema: TypeAdapter[T]) -> T:
    """What a JSON file holds, checked. Raises DapaError, which names it, where it holds anything else."""
    try:
        return schema.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DapaError(f"{path}: damaged: {damage(error)}") from error


def _as_meant(body: Any) -> Any:
    """A config of before rows that resemble a search row could be left out: its run used them."""
    if isinstance(body, dict) and isinstance(dataset := body.get("dataset"), dict):
        dataset.setdefault("drop_similar", False)
    return body
