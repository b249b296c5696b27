"""The layouts of the folders of a run, a sweep and a localisation: the name of every file, and how to read it.

No other module contains these file names. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import read_object
from dapa_exp.config.schema import Config
from dapa_exp.record.journal import Line, read_lines
from dapa_exp.record.schema import Record, SearchRecord, damage

T = TypeVar("T")


class _Place:
    """A file or folder of a layout, as a path below the layout's folder. A method replaces `*` by a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layout: _Layout, owner: type[_Layout]) -> Path:
        return layout.folder / self.name


class _Layout:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def names(cls) -> list[str]:
        """The names of all files and folders of the layout. A folder's name ends in a slash."""
        return [place.name for place in vars(cls).values() if isinstance(place, _Place)]


class CompletionLine(BaseModel):
    """A line of `generations/*.jsonl`."""

    weights: str
    prompt: str
    completion: str
    tokens: int
    cut: bool = False


class QueryLine(BaseModel):
    """A line of `search.jsonl`: one query. Fields that are never read again are not listed here.

    Fields with a default are missing in older files.
    """

    index: int
    units: list[str]
    score: float
    verdicts: dict[str, str]
    tokens: int
    seconds: float
    at_most: float = 1.0
    prompts: int = 0
    work: dict[str, int] = {}


class StageCostLine(BaseModel):
    """A line of `cost.jsonl`."""

    stage: str
    seconds: float
    tokens: int
    peak_memory_bytes: int
    reused: dict[str, str] = {}


class SubmittedJob(BaseModel, frozen=True):
    """The content of `job.json`."""

    cluster: Literal["slurm", "local"]
    id: str
    started: str | None
    """When a job on this machine began, as the kernel counts it."""
    log: str


class Reproducible(BaseModel):
    """The content of `reproduce.json`: all that is needed to carry a run out again, and what it found."""

    command: str = "dapa reproduce reproduce.json"
    config: Config
    record: Record


class RunLayout(_Layout):
    """The folder of a run."""

    config = _Place("config.yaml")
    identity = _Place("identity.json")
    inputs = _Place("inputs.json")
    queries = _Place("search.jsonl")
    _more_queries = _Place("search-*.jsonl")
    prior = _Place("prior.json")
    found = _Place("found.json")
    plan = _Place("plan.json")
    proof = _Place("transplant.json")
    _completions = _Place("generations/*.jsonl")
    _metrics = _Place("metrics/*.json")
    neurons = _Place("neurons.safetensors")
    tuned = _Place("tuned.safetensors")
    references = _Place("references/")
    cost = _Place("cost.jsonl")
    log = _Place("run.log")
    mirror = _Place("wandb/")
    report = _Place("report/")
    record = _Place("record.json")
    reproduce = _Place("reproduce.json")
    error = _Place("error.json")
    job = _Place("job.json")
    claim = _Place(".claim")
    old_lock = _Place(".lock")
    hydra = _Place(".hydra/")

    def queries_of(self, student: int) -> Path:
        """The queries to the first, second, … of the students that one set is to serve."""
        return self.queries if student == 1 else self._named(self._more_queries, str(student))

    def completions(self, *name: str) -> Path:
        """The file of answers of one model to one prompt set, or, named "search", of all hybrids of the search."""
        return self._named(self._completions, "-".join(name))

    def metric(self, model: str, metric: str) -> Path:
        return self._named(self._metrics, f"{model}-{metric}")

    def verdicts(self, model: str, prompts: str, judge: str) -> Path:
        return self.metric(model, f"{prompts}-{judge}")

    def reference(self, name: str) -> Path:
        return self.references / f"{name}.safetensors"

    @property
    def mirror_marker(self) -> Path:
        """The file that says how the record was sent to W&B. It exists only after that."""
        return self.mirror / "mirrored.json"

    @property
    def mirror_failure(self) -> Path:
        """The file that says why the last attempt to send the record failed."""
        return self.mirror / "failed.json"

    def is_run(self) -> bool:
        """Whether a run was started in this folder."""
        return any(file.is_file() for file in (self.config, self.queries, self.record, self.error))

    def read_config(self) -> Config:
        """The run's config. Raises DapaError if the folder is not a run's, or the config is not valid."""
        try:
            return Config.model_validate(_as_meant(self.config_as_written()))
        except ValidationError as error:
            raise DapaError(f"{self.config}: not the config of a run: {damage(error)}") from error

    def config_as_written(self) -> Any:
        """The run's config as plain values. It is not validated, so it may come from another version of dapa_exp."""
        try:
            return yaml.load(self.config.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        except FileNotFoundError as error:
            place = self.config.parent
            raise DapaError(f"{place}: not the folder of a run: it has no {self.config.name}") from error
        except OSError as error:
            raise DapaError(f"{self.config}: {error.strerror}") from error
        except (ValueError, yaml.YAMLError) as error:
            raise DapaError(f"{self.config}: not the config of a run: {error}") from error

    def essence(self) -> dict[str, Any]:
        """What the run's identity is computed from. Empty if the run was never started, or the file is damaged."""
        essence = (read_object(self.identity) or {}).get("essence")
        return essence if isinstance(essence, dict) else {}

    def read_record(self) -> Record:
        """The run's record. Raises DapaError if the run is not finished, or the record is damaged."""
        if not self.record.is_file():
            raise DapaError(f"{self.folder}: no {self.record.name}, so the run is not finished")
        try:
            return Record.model_validate_json(self.record.read_bytes())
        except (OSError, ValidationError) as error:
            raise DapaError(f"{self.record}: not a valid record: {damage(error)}") from error

    def read_search(self) -> SearchRecord:
        """What the run's search found. Raises DapaError if the search is not finished, or its result is damaged."""
        if self.found.is_file() and not self.record.is_file():
            return read_json(self.found, TypeAdapter(SearchRecord))
        return self.read_record().search

    def read_job(self) -> SubmittedJob | None:
        """The cluster's job that this run was last submitted as; None if it was not submitted, or cannot be told."""
        try:
            return SubmittedJob.model_validate_json(self.job.read_bytes())
        except (OSError, ValidationError):
            return None

    def read_reproducible(self) -> Reproducible:
        """The config and the record of a finished run. Raises DapaError if the run is not finished."""
        return self.reproducible(self.read_config(), self.read_record())

    def reproducible(self, config: Config, record: Record) -> Reproducible:
        """The config and the record of this run. Units that another run found are named: that run may be gone later."""
        if config.search.from_run is not None:
            given = {"units": json.loads(self.identity.read_bytes())["essence"]["search"]["units"], "from_run": None}
            config = config.model_copy(update={"search": config.search.model_copy(update=given)})
        return Reproducible(config=config, record=record)

    def read_queries(self) -> list[Line]:
        """The queries of the search so far; an empty list if there was no search."""
        return read_lines(self.queries, QueryLine)

    def count_queries(self) -> int | None:
        """How many queries the search has made, to all its students; None if it has not begun.

        Counts lines without parsing them.
        """
        files = [self.queries, *self.folder.glob(self._more_queries.name)]
        return sum(file.read_bytes().count(b"\n") for file in files) if self.queries.is_file() else None

    def read_completions(self, model: str, prompts: str) -> list[Line]:
        return read_lines(self.completions(model, prompts), CompletionLine)

    def _named(self, places: Path, name: str) -> Path:
        return places.with_name(places.name.replace("*", name))


class SweepLayout(_Layout):
    """The folder of a sweep. It holds the run folders of all commands with the same experiment name."""

    listing = _Place("sweep.json")
    claim = _Place(".sweep-claim")
    old_lock = _Place(".sweep.lock")
    jobs = _Place(".submitit/")
    mirror = _Place("wandb/")
    report = _Place("report/")
    page = _Place("report/report.html")
    localisations = _Place("localise/")
    drifts = _Place("drift/")
    shared = _Place("shared/")
    shared_references = _Place("shared/references/")

    def read_listing(self) -> list[dict[str, Any]]:
        """The runs that commands have asked for; an empty list without `sweep.json`. Raises DapaError if damaged."""
        return read_json(self.listing, _LISTING).runs if self.listing.is_file() else []

    def is_done(self) -> bool:
        """Whether all runs that commands have asked for are done."""
        return all(RunLayout(self.folder / run["folder"]).record.is_file() for run in self.read_listing())

    def runs(self) -> Iterator[Path]:
        """The folders of all runs that were started."""
        return (path for path in sorted(self.folder.iterdir()) if RunLayout(path).is_run())


class LocaliseLayout(RunLayout):
    """The folder of a localisation. It is a run's folder with `localise.json` instead of `record.json`."""

    localisation = _Place("localise.json")
    _parts = _Place("localise/*.json")

    def part(self, name: str) -> Path:
        """The file of one measurement, or of the settings."""
        return self._named(self._parts, name)


class _Listing(BaseModel):
    """The content of `sweep.json`."""

    runs: list[dict[str, Any]]


_LISTING = TypeAdapter(_Listing)


def read_json(path: Path, schema: TypeAdapter[T]) -> T:
    """The validated content of a JSON file. Raises DapaError, which names the file, if it does not match `schema`."""
    try:
        return schema.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DapaError(f"{path}: no such file or folder") from error
    except (OSError, ValidationError) as error:
        raise DapaError(f"{path}: damaged: {damage(error)}") from error


def _as_meant(body: Any) -> Any:
    """A config of before rows that resemble a search row could be left out: its run used them."""
    if isinstance(body, dict) and isinstance(dataset := body.get("dataset"), dict):
        dataset.setdefault("drop_similar", False)
    return body
