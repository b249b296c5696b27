"""The schema of a run's config, with one class for each config group.

The YAML files in `conf/` hold all defaults. The classes here say which keys and values are allowed. A composed config
is validated against `Config` at once, so that all its problems are reported together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from dapa_exp.base.errors import nearest
from dapa_exp.base.files import expanded
from dapa_exp.base.registry import Registry
from dapa_exp.config.group import Group
from dapa_exp.config.own_pair import name_by_models
from dapa_exp.config.registries import ALGORITHMS, METHODS, METRICS, PRIORS, MethodSettings

ModuleName = Literal[
    "layer", "mlp", "attention", "norms", "router", "gate_proj", "up_proj", "down_proj", "embeddings", "final_norm"
]


def _registered(registry: Registry[Any]) -> AfterValidator:
    """Refuses a name that nothing is registered under."""

    def check(name: str) -> str:
        registry.get(name)
        return name

    return AfterValidator(check)


AlgorithmName = Annotated[str, _registered(ALGORITHMS)]
PriorName = Annotated[str, _registered(PRIORS)]
MetricName = Annotated[str, _registered(METRICS)]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


def _device(*others: str) -> AfterValidator:
    """A validator that accepts torch's device names and the names in `others`."""

    def check(name: str) -> str:
        if name not in others and not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d*))?|mps", name):
            raise ValueError(f"is {name!r}; allowed: {', '.join((*others, 'cpu', 'cuda', 'cuda:N', 'mps'))}")
        return name

    return AfterValidator(check)


Device = Annotated[str, _device()]


def _fit_for_a_folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"is {name!r}; it names folders, so it must be of letters, digits, '_', '.', '+' and '-'")
    return name


FolderName = Annotated[str, AfterValidator(_fit_for_a_folder)]


def _sure_place(folder: str) -> str:
    if not folder or folder.startswith("~"):
        raise ValueError(f"is {folder!r}; it must name a folder, and nobody expands a '~' in it")
    return folder


def _refuse_strange(name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"'{name}': names files and columns, so it must be of letters, digits and underscores")


def _each_once(names: list[ModuleName]) -> list[ModuleName]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names {', '.join(repeated)} more than once")
    return names


class Model(Group):
    """A checkpoint: `zoo:NAME`, a folder or a .gguf file (starting with `/`, `./` or `~`), or a hub id."""

    id: Annotated[str, Field(min_length=1)]
    revision: str | None
    allow_pickle: bool = Field(default=False, description="read weights that exist only as pytorch_model.bin")

    @property
    def zoo_name(self) -> str | None:
        """The model's name in the zoo; None if it is not a zoo model."""
        return self.id.removeprefix("zoo:") if self.id.startswith("zoo:") else None

    @property
    def folder(self) -> Path | None:
        """The folder or file that the id names; None if the id is of the zoo or the hub."""
        return expanded(self.id) if self.id.startswith(("/", "./", "../", "~")) else None


def _by_id(model: object) -> object:
    return {"id": model, "revision": None} if isinstance(model, str) else model


Base = Annotated[Model, BeforeValidator(_by_id)]
"""A model that the config may give as its id alone."""


class Family(Group):
    """An aligned teacher, and the settings that its students share."""

    name: str
    title: str
    model_type: str | None = Field(description="what the checkpoints must be; null: whatever they are")
    teacher: Model
    num_layers: Count | None = Field(description="of the model that paper_layers is of")
    paper_layers: tuple[int, int] | None = Field(
        description="first and last layer that the paper's released code transplants; null: unknown"
    )
    made_here: bool = Field(description="true: models trained by this project, which are no evidence about real ones")

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        if (self.paper_layers is None) != (self.num_layers is None):
            raise ValueError("paper_layers and num_layers: one of them is null; they belong together")
        if self.paper_layers is None or self.num_layers is None:
            return self
        first, last = self.paper_layers
        if not 0 <= first <= last < self.num_layers:
            raise ValueError(f"paper_layers {first}-{last} do not lie within 0-{self.num_layers - 1}")
        return self


class Drifted(Group):
    """How the student of a round of `dapa drift` came about."""

    pair: str = Field(description="the pair of the first run")
    rounds: Count = Field(description="how often the student was transplanted and then tuned")
    tuned: Literal["all", "inside", "outside"]
    equal_tensors: int = Field(default=0, description="tensors of the round's hybrid equal to the first hybrid's")
    tensors: int = Field(default=0, description="tensors in all")


class PairSettings(Group):
    """The student of the family's teacher."""

    name: FolderName
    student: Model
    chat_template: Literal["own", "teacher", "found"] = Field(
        description="whose chat template the student's prompts go through; found: its own, where it has one"
    )
    paper17: bool
    reason: str = Field(description="why the pair is, or is not, one of the 17 pairs")
    allow_unsafe_teacher: bool
    drifted: Drifted | None = Field(default=None, description="set by dapa drift: how the student came about")
    thinking: bool | None = Field(
        default=None, description="enable_thinking in the chat template, where it has that switch; null: its default"
    )
    also: list[Base] = Field(
        default=[], description="further students of the same teacher: the search looks for one set that serves all"
    )

    @property
    def students(self) -> list[Model]:
        """All students that the search is to serve, the pair's own first."""
        return [self.student, *self.also]

    @model_validator(mode="after")
    def _students_once(self) -> Self:
        if twice := [model.id for place, model in enumerate(self.students) if model in self.students[:place]]:
            raise ValueError(f"also: {twice[0]} is named twice; pair.student is one of the students already")
        return self


class Granularity(Group):
    """What a unit is: each of these modules, in every layer if the module is part of a layer."""

    name: FolderName
    modules: Annotated[list[ModuleName], Field(min_length=1), AfterValidator(_each_once)]


class Rows(Group):
    """A slice of a prompt set: `zoo:NAME`, `fetched:NAME`, a .csv/.jsonl/.parquet file, or a data set's hub id."""

    source: str
    revision: str | None
    subset: str | None
    split: str
    column: str
    answer_column: str | None
    category_column: str | None
    where: dict[str, str] = Field(description="only rows with these values, by column; `rows` is a slice of them")
    rows: tuple[Annotated[int, Field(ge=0)], Count]
    sample: Count | None = Field(description="how many of the rows to draw, without replacement; null: all")
    sample_seed: int

    def wanted(self, there: Iterable[str]) -> list[str]:
        """Which of a table's columns are read: those that the config names, and `id`."""
        named = (self.column, self.answer_column, self.category_column, *self.where, "id")
        return [name for name in there if name in named]

    @property
    def fetched_name(self) -> str | None:
        """The set's name for `dapa fetch`; None if the source is not a fetched set."""
        return self.source.removeprefix("fetched:") if self.source.startswith("fetched:") else None

    @property
    def count(self) -> int:
        """How many rows these are."""
        return self.sample or self.rows[1] - self.rows[0]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        first, last = self.rows
        if first >= last:
            raise ValueError(f"rows {list(self.rows)} hold nothing: the second number must be larger")
        if self.sample is not None and self.sample > last - first:
            raise ValueError(f"sample {self.sample} is more than rows {list(self.rows)} hold")
        return self


class ConversationRows(Rows):
    """A slice of a set of conversations. The user's turns are replayed, and the measured model answers them.

    `column` holds a list of turns. If it ends in `*`, each column that begins so, and ends in a number, holds a turn.
    """

    text_key: str = Field(default="content", description="the key of a turn's text, where a turn is not plain text")
    role_key: str | None = Field(default="role", description="the key of a turn's role; null: all are the user's")
    user: str = Field(default="user", description="the user's role")
    opening_column: str | None = Field(
        default=None, description="column with the number of first turns that ask for no harm: they are not judged"
    )

    def turn_columns(self, there: Iterable[str]) -> list[str]:
        """Which of a table's columns hold turns, in the order of the turns."""
        if not self.column.endswith("*"):
            return [self.column]
        begin = self.column.removesuffix("*")
        numbers = {name: name.removeprefix(begin) for name in there if name.startswith(begin)}
        return sorted((name for name, number in numbers.items() if number.isdecimal()), key=lambda n: int(numbers[n]))

    def wanted(self, there: Iterable[str]) -> list[str]:
        there = list(there)
        named = {*self.turn_columns(there), self.opening_column}
        return [name for name in there if name in named or name in super().wanted([name])]


class Attack(Group):
    """A published jailbreak: one template, or a prompt set of templates that the report rows take in turn.

    The request stands where a template says `{request}`, else after it.
    """

    template: Annotated[str, Field(min_length=1)] | None = None
    templates: Rows | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template is None) == (self.templates is None):
            raise ValueError("template and templates: set one of the two")
        return self


SINGLE_SETS = ("search", "report", "harmless", "text", "questions", "skill", "conversations")
"""The uses of a data set that have one prompt set each."""


class Dataset(Group):
    """The rows of the search, and those of the report. A metric is left out if its prompt set is null."""

    name: FolderName
    search: Rows
    report: Rows = Field(description="harmful rows for the headline DSR")
    more_report: dict[str, Rows] = Field(default={}, description="further harmful sets to report on, by name")
    attacks: dict[str, Attack] = Field(
        default={}, description="published jailbreaks, by name: the report rows are asked again with each around them"
    )
    harmless: Rows | None = Field(description="harmless rows for the headline over-refusal")
    more_harmless: dict[str, Rows] = Field(default={}, description="further harmless sets, by name")
    text: Rows | None
    text_joined: bool = Field(description="the text rows are lines of one text, and are joined by blank lines")
    questions: Rows | None
    skill: Rows | None = Field(default=None, description="questions about what only the student has been taught")
    conversations: ConversationRows | None = Field(
        default=None, description="conversations of several turns, for replay"
    )
    system_prompt: Annotated[str, Field(pattern=r"\S")] | None = Field(
        default=None, description="system prompt of all sets except text; null: none"
    )
    similar_at: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.5, description="Jaccard index of words and word pairs from which two rows are similar"
    )
    drop_similar: bool = Field(default=True, description="leave out report rows that resemble a search row")

    def sets(self) -> dict[str, Rows]:
        """All prompt sets that are not null, by use: `search`, `report`, `more_report.NAME` and so on.

        A use is the set's key in the config, so that of an attack's templates is `attacks.NAME.templates`.
        """
        single = {use: getattr(self, use) for use in SINGLE_SETS}
        found = {use: rows for use, rows in single.items() if rows}
        found |= {f"more_report.{name}": rows for name, rows in self.more_report.items()}
        found |= {f"more_harmless.{name}": rows for name, rows in self.more_harmless.items()}
        return found | {f"attacks.{name}.templates": of.templates for name, of in self.attacks.items() if of.templates}

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        taken = set(SINGLE_SETS)
        taken |= {step for name, metric in METRICS for step in (name, *metric.titles)}  # their files share the folder
        for name in (*self.more_report, *self.more_harmless, *self.attacks):
            _refuse_strange(name)
            if name in taken or re.fullmatch(r"turn\d+", name):
                raise ValueError(f"'{name}': another prompt set or a metric has this name; choose another")
            taken.add(name)
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        a = self.search
        for b in (self.report, *self.more_report.values()):
            same = (a.source, a.subset, a.split, a.where) == (b.source, b.subset, b.split, b.where)
            if same and a.rows[0] < b.rows[1] and b.rows[0] < a.rows[1]:
                raise ValueError(
                    f"search rows {list(a.rows)} and report rows {list(b.rows)} of {a.source} overlap:"
                    " a set found on rows that the report counts would flatter itself"
                )
        return self


class Search(Group):
    """How to search for a smallest set of units, and when a set passes."""

    model_config = ConfigDict(populate_by_name=True)  # `from` is no name in Python

    algorithm: AlgorithmName
    prior: PriorName | None = Field(description="how to guess, before the first query, which units matter")
    prior_rows: Count = Field(description="number of search rows that the prior is computed from")
    threshold: Share = Field(description="share of the DSR gain of all units that a set must keep to pass")
    weight: Literal["units", "parameters"] = Field(default="units", description="what a search looks for the fewest of")
    min_gain: Share = Field(description="no search if the DSR gain of all units is smaller than this")
    max_new_tokens: Count
    longer_tokens: Count | None = Field(
        default=None,
        description="length of the answers on rows where the first max_new_tokens mislead; null: max_new_tokens",
    )
    stop_when_decided: bool = Field(description="stop a query once the set must fail; its DSR is then only bounded")
    max_queries: Count | None
    max_seconds: Annotated[float, Field(gt=0)] | None
    seed: int
    k: Count | None
    repeats: Count
    share: Share | None = Field(
        default=None, description="share of the student's parameters that search=share may replace"
    )
    units: list[str] | None = Field(default=None, description="the set that search=given takes")
    from_run: str | None = Field(
        default=None,
        alias="from",
        description="or the folder of the run that found them; with *, of several: all units that any found",
    )
    within: str | None = Field(
        default=None, description="folder of a run: only units that lie within those that it found are searched among"
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for keys, what in ALGORITHMS.get(self.algorithm).needs.items():
            if all(getattr(self, key) is None for key in keys.split("|")):
                names = " and ".join(type(self).model_fields[key].alias or key for key in keys.split("|"))
                raise ValueError(f"{names}: null, and search={self.algorithm} needs {what}")
        return self

    @model_validator(mode="after")
    def _longer_is_longer(self) -> Self:
        if self.longer_tokens is not None and self.longer_tokens <= self.max_new_tokens:
            raise ValueError(f"longer_tokens {self.longer_tokens}: must be more than max_new_tokens")
        return self

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Self:
        if self.units is not None and self.from_run is not None:
            raise ValueError("units and from: both name a set; one of them is enough")
        if self.algorithm != "given" and (self.units is not None or self.from_run is not None):
            raise ValueError(f"search={self.algorithm} takes neither units nor from; search=given does")
        return self


class Localise(Group):
    """Settings of causal tracing, for `dapa localise` and search.prior=causal_tracing."""

    noise: Annotated[float, Field(gt=0)] = Field(description="in standard deviations of the requests' embeddings")
    seeds: Count = Field(description="draws of noise for each prompt")
    window: Count = Field(description="neighbouring layers restored together, for MLP and attention")


def _settings_of_its_method(body: object) -> object:
    """The settings of a transplant in the class that its method has registered."""
    if not isinstance(body, dict):
        return body
    if "method" not in body:
        raise ValueError(f"method: mandatory key is missing; allowed: {', '.join(METHODS.names())}")
    return METHODS.get(body["method"]).Settings.model_validate(body)


Transplant = Annotated[SerializeAsAny[MethodSettings], BeforeValidator(_settings_of_its_method)]
"""The transplant method and its own settings."""


class Drift(Group):
    """Settings of `dapa drift`: how the hybrid is tuned before it is transplanted again."""

    rounds: Count
    tuned: Literal["all", "inside", "outside"] = Field(
        description="the weights that are tuned: all, those of the found units, or all but them"
    )
    tuning: Transplant = Field(description="settings of transplant=fine_tune")

    @field_validator("tuning")
    @classmethod
    def _tunes(cls, tuning: MethodSettings) -> MethodSettings:
        if tuning.method != "fine_tune":
            raise ValueError(f"method is {tuning.method!r}; only fine_tune tunes")
        return tuning


class Registered(Group):
    """Settings of one thing among several, each with keys of its own: the value of one key tells which it is.

    A base class sets `registry`, and `told_by` where the key is not `name`; whatever is registered is a subclass.
    A field of the base class takes the keys of any of them.
    """

    registry: ClassVar[Registry[Any]]
    told_by: ClassVar[str] = "name"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if "registry" in vars(cls):
            return core_schema.no_info_before_validator_function(cls.of, core_schema.any_schema())
        return handler(source)

    @classmethod
    def defaults(cls, name: str) -> dict[str, Any]:
        """The content of a YAML file that only names this kind: its defaults, and "???" for keys without a default."""
        keys = {
            key: "???" if field.is_required() else TypeAdapter(Any).dump_python(field.get_default(), mode="json")
            for key, field in cls.model_fields.items()
        }
        return keys | {cls.told_by: name}

    @classmethod
    def of(cls, said: Any) -> Registered:
        """The settings that a mapping describes. Raises ValueError, or ValidationError for the keys of one of them."""
        if isinstance(said, cls):
            return said
        name = said.get(cls.told_by) if isinstance(said, dict) else None
        if name is None or name not in cls.registry:
            allowed = cls.registry.names()
            raise ValueError(f"{cls.told_by} is {name!r};{nearest(str(name), allowed)} allowed: {', '.join(allowed)}")
        found: Registered = cls.registry.get(name).model_validate(said)
        return found


class JudgeNeeds(NamedTuple):
    """What a judge needs on this machine. A field is None if the judge does not need it."""

    model: Model | None = None
    device: str | None = None
    key: str | None = None
    """An environment variable that must be set."""
    extra: str | None = None
    """Of our package: what it installs is imported under `package`."""
    package: str | None = None
    chat_template: bool = False
    """Whether the model is asked through its own chat template."""


JudgedOutcome = Literal["refused", "harmless", "harmful"]
"""What a judge can tell apart."""


class JudgeSettings(Registered):
    """What a config says of a judge, and what each judge says of itself: its file registers a subclass of this.

    A subclass names its `version`, to be raised whenever one of its verdicts could change: its rule, its
    words, or how a reply is read.
    """

    registry: ClassVar[Registry[type[JudgeSettings]]] = Registry("judge", "dapa_exp.judges")
    version: ClassVar[str]
    no_identity: ClassVar[frozenset[str]] = frozenset()
    """Keys that cannot move a verdict, such as how a server is reached."""
    name: str

    def sees(self) -> frozenset[JudgedOutcome]:
        """Which of the outcomes it can tell from others. One that sees no refusals cannot measure over-refusal."""
        raise NotImplementedError

    def needs(self) -> JudgeNeeds:
        """What must be here before it can judge."""
        return JudgeNeeds()

    def sends_to(self) -> str | None:
        """The address that completions are sent to; None if they stay on this machine."""
        return None

    def make(self) -> Any:
        """The judge (`dapa_exp.judges.Judge`), its model loaded. Raises DapaError where what it needs is not here."""
        raise NotImplementedError


class Tasks(Group):
    """The tasks for lm-evaluation-harness."""

    names: list[str] = Field(description="tasks and groups of the harness, or of dapa_exp/evaluate/tasks")
    limit: Count | None = Field(description="documents for each task, also for each of a group; null: all")
    chat_template: bool = Field(description="format the questions with the chat template")


class Evaluate(Group):
    """What is measured on student, hybrid and teacher."""

    max_new_tokens: Count
    metrics: list[MetricName]
    perplexity_window: Count | None = Field(description="in tokens; null: the model's context length")
    perplexity_stride: Count = Field(description="tokens")
    perplexity_over: Literal["tokens", "windows"] = Field(
        default="tokens", description="what each counts once: `windows` is the mean of the windows' mean losses"
    )
    divergence_rows: Count = Field(description="prompts of each set that divergence and change_by_layer use")
    divergence_tokens: Count = Field(description="tokens of each answer over which KL is averaged")
    divergence_temperatures: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    tasks: Tasks
    confirm: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        default=None, description="error rate of a test of the found set and its certificate on report rows; null: none"
    )
    random_repeats: Annotated[int, Field(ge=0)] = Field(
        description="random sets beside the found one, as a control; all if there are fewer"
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        if self.perplexity_window is not None and self.perplexity_stride >= self.perplexity_window:
            raise ValueError(
                f"perplexity_stride {self.perplexity_stride} must be smaller than"
                f" perplexity_window {self.perplexity_window}: tokens would be left unscored"
            )
        return self


class RecordSettings(Group):
    """Where results are written. No key here changes a result, so none is part of the identity."""

    dir: Annotated[str, AfterValidator(_sure_place)]
    experiment: str = Field(description="name of the sweep: its folder below dir, and its W&B group")
    share: bool = Field(
        default=True, description="measure a teacher or student once for all runs of the sweep that need the same"
    )
    until: Literal["search"] | None = Field(
        default=None, description="stop after this stage; the same command without this key goes on from there"
    )
    wandb: Literal["off", "offline", "online"]
    wandb_project: str
    wandb_entity: str | None


class Runtime(Group):
    """How a run is computed.

    dtype and batch_size can change greedy answers. The fast engine can change them too, but only below float32.
    """

    device: Annotated[str, _device("auto")] = Field(description="auto: layers spread over all devices")
    dtype: Literal["float32", "bfloat16", "float16"]
    engine: Literal["plain", "fast", "vllm"] = Field(
        description="fast: in float32 the same verdicts, by the next three keys; vllm: vLLM generates"
    )
    reuse_memory: Annotated[float, Field(ge=0.0)] = Field(description="GB for reused layer outputs on prompts; 0: none")
    drafts: bool = Field(description="use earlier hybrids' answers as drafts, and decode only where they differ")
    early_verdicts: bool = Field(description="stop an answer once the judge can tell whether it is defended")
    graphs: bool = Field(
        default=False, description="on one GPU, below float32: repeat the kernels of a token as a CUDA graph"
    )
    tensor_parallel: Count = Field(default=1, description="devices that vLLM spreads the model over")
    cache_memory: Annotated[float, Field(gt=0.0)] = Field(
        default=1.0, description="GB of vLLM's cache of keys and values, on each device"
    )
    batch_size: Count
    threads: Count = Field(description="torch threads of each process")
    processes: Count | Literal["auto"] = Field(
        description="how many runs of a sweep to carry out at a time on one machine; auto: as many as fit into memory"
    )
    wait: bool = Field(default=True, description="false: return as soon as the runs are submitted to a cluster")

    @model_validator(mode="after")
    def _engine_fits_devices(self) -> Self:
        if self.engine == "vllm" and self.device not in ("cpu", "cuda", "auto"):
            raise ValueError(
                f"engine=vllm takes the devices that are visible, not device={self.device}; allowed: cpu, cuda, auto."
                " CUDA_VISIBLE_DEVICES chooses one"
            )
        if self.tensor_parallel > 1 and (self.engine != "vllm" or self.device == "cuda"):
            raise ValueError(
                f"tensor_parallel={self.tensor_parallel} needs engine=vllm, and device=auto or cpu: with device=cuda a"
                " run of a sweep sees one GPU"
            )
        return self


class Config(Group):
    family: Family
    pair: PairSettings
    granularity: Granularity
    dataset: Dataset
    search: Search
    localise: Localise
    drift: Drift | None = None
    transplant: Transplant
    judge: JudgeSettings
    judges: dict[str, JudgeSettings] = Field(
        default={}, description="further judges of the same report completions, by name"
    )
    evaluate: Evaluate
    record: RecordSettings
    runtime: Runtime

    @model_validator(mode="before")
    @classmethod
    def _named_by_models(cls, body: Any) -> Any:
        return name_by_models(body)

    @field_validator("search")
    @classmethod
    def _paper_layers_known(cls, search: Search, info: ValidationInfo) -> Search:
        family: Family | None = info.data.get("family")
        if search.algorithm == "fixed" and family and family.paper_layers is None:
            raise ValueError("fixed needs family.paper_layers, which is null; search=given takes layers of your own")
        return search

    @field_validator("search", "transplant", "evaluate", "runtime")
    @classmethod
    def _for_several_students(cls, part: Group, info: ValidationInfo) -> Group:
        pair: PairSettings | None = info.data.get("pair")
        if pair and pair.also and (problem := _only_for_one_student(part)):
            raise ValueError(f"{problem}; with pair.also, a search looks for one set for several students")
        return part

    def by_student(self) -> list[Config]:
        """A config for each student that the search is to serve, the pair's own first."""
        pair = self.pair
        names = [pair.name, *(f"{pair.name} ({model.id})" for model in pair.also)]
        return [
            self.model_copy(update={"pair": pair.model_copy(update={"name": name, "student": model, "also": []})})
            for name, model in zip(names, pair.students, strict=True)
        ]

    @property
    def label(self) -> str:
        """A short name of the run for progress displays: pair, granularity and search."""
        prior = self.search.prior if self.search.prior not in (None, "uniform") else None
        return " ".join(filter(None, (self.pair.name, self.granularity.name, self.search.algorithm, prior)))

    @field_validator("judges")
    @classmethod
    def _named_apart(cls, judges: dict[str, JudgeSettings], info: ValidationInfo) -> dict[str, JudgeSettings]:
        own: JudgeSettings | None = info.data.get("judge")
        if own is not None and own.name in judges:
            raise ValueError(f"'{own.name}': the run's own judge has this name; choose another")
        for name in judges:
            _refuse_strange(name)
        return judges


def _only_for_one_student(part: Group) -> str | None:
    """What a part of the config asks for that a search for one set for several students does not have."""
    match part:
        case Search() if ALGORITHMS.get(part.algorithm).control:
            return f"algorithm is {part.algorithm}, which searches for no set; give the set to each student by itself"
        case Search(longer_tokens=int()):
            return "longer_tokens must be null"
        case MethodSettings() if part.method != "copy":
            return f"method is {part.method}; it must be copy"
        case Evaluate(confirm=float()):
            return "confirm must be null"
        case Runtime(engine="vllm"):
            return "engine is vllm; it must be fast or plain"
    return None
