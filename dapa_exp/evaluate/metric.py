"""The interface of a metric: it measures the model in the engine, and may keep something to compare later models with.

To add a metric, write one file in `dapa_exp/evaluate/metrics` or a plugin, and register an object there. Import torch
inside functions: a config is read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field, TypeAdapter, ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import METRICS, MetricKind
from dapa_exp.config.schema import Config
from dapa_exp.prompts.conversations import turn_of, turn_set
from dapa_exp.prompts.load import PromptSets, digest
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.identity import evaluations
from dapa_exp.record.measure import Measure
from dapa_exp.record.shared import Format, Key, json_format

if TYPE_CHECKING:
    from torch import Tensor

    from dapa_exp.engine.plain import Completion, PlainEngine
    from dapa_exp.evaluate.replay import Exchange
    from dapa_exp.models.load import LoadedModel

__all__ = ["METRICS", "Measure", "Metric", "ModelInEngine", "compared_rows"]

ModelName = Literal["student", "hybrid", "teacher"]
MEASURED: tuple[ModelName, ...] = ("teacher", "student", "hybrid")
"""The models of a run, in the order in which they are measured."""
TASK_STEP = "task-"
"""The beginning of the names of lm-evaluation-harness's steps, before the task."""
_VALUES = TypeAdapter(Annotated[dict[str, Measure], Field(min_length=1)])

Step = Callable[[], dict[str, Measure]]
"""Measures one thing. Returns its numbers by key, for example by temperature."""


@dataclass(frozen=True)
class ModelInEngine:
    """The model that is now in the engine, and everything that a metric may use to measure it."""

    name: ModelName
    load: Callable[[], PlainEngine]
    """Returns the engine with the model. The model is loaded at the first call."""
    run: RunFolder
    config: Config
    prompts: PromptSets
    key: Key | None = None
    """Everything that the answers depend on, except prompts and length. None: nothing is shared between runs."""

    @property
    def engine(self) -> PlainEngine:
        return self.load()

    @property
    def loaded(self) -> LoadedModel:
        return self.engine.loaded

    @property
    def earlier(self) -> tuple[ModelName, ...]:
        """The models of this run that were measured before this one."""
        return MEASURED[: MEASURED.index(self.name)]

    def answers(self, prompt_set: str) -> list[Completion]:
        """The model's answers to a prompt set, in order. An answer is generated once, and kept in the run's folder."""
        if turn := turn_of(prompt_set):
            return [cast("Completion", said.answer) for said in self._judged_at(turn)]
        return [answer for answer in self._answers(prompt_set, self.rows(prompt_set)) if answer]

    @cached_property
    def exchanges(self) -> list[list[Exchange]]:
        """The requests and answers of the conversations, by turn."""
        from dapa_exp.evaluate.replay import replay

        def answer(turn: int, prompts: list[Prompt]) -> list[Completion | None]:
            return self._answers(turn_set(turn), prompts, may_be_long=True)

        return replay(self.prompts.conversations, answer)

    def _judged_at(self, turn: int) -> list[Exchange]:
        from dapa_exp.evaluate.replay import judged_at

        return judged_at(self.exchanges, turn)

    def _answers(self, name: str, rows: Sequence[Prompt], may_be_long: bool = False) -> list[Completion | None]:
        """The answers to these rows, kept in the run's folder under a name.

        With `may_be_long`, the answer to a row that does not fit into the model's context is None.
        """
        from dapa_exp.engine.completions import COMPLETIONS, CompletionStore
        from dapa_exp.engine.plain import Request

        _, length = answer_length(self.config, name)
        store, request = CompletionStore(self.run, self.name, name), Request(tuple(rows), length, reuse=False)
        if (kept := store.find(self.name, request)) is not None:
            return list(kept)

        def generate() -> list[Completion | None]:
            fitting = tuple(row for row in rows if not may_be_long or self._fits(row, length))
            answers = store.complete(self.engine, self.name, replace(request, prompts=fitting))
            by_row = dict(zip((row.id for row in fitting), answers, strict=True))
            return [by_row.get(row.id) for row in rows]

        if not store.is_empty:  # below float32, the rest of a set may be answered otherwise than the whole set
            return generate()
        key = self.key and {"what": "answers", **self.key, "prompts": digest(rows), "max_new_tokens": length}
        found = self.run.share(store.file, key, json_format(COMPLETIONS), generate)
        if store.is_empty:  # another run has generated them
            pairs = [(row, answer) for row, answer in zip(rows, found, strict=True) if answer]
            asked, answers = [row for row, _ in pairs], [answer for _, answer in pairs]
            store.add(self.name, asked, answers)
            if self.name == "student" and asked:
                self.engine.remember(asked, answers)  # hybrids may answer alike
        return found

    def _fits(self, row: Prompt, length: int) -> bool:
        """Whether the model's context holds a prompt and an answer of so many tokens."""
        from dapa_exp.engine.plain import token_count

        most: int = self.loaded.model.config.max_position_embeddings
        return token_count(self.loaded.tokenizer, row) + length <= most

    def result_key(self, what: str) -> Key | None:
        """Everything that the model's result `what` depends on. None if results are not shared between runs."""
        return self.key and {"what": what, **self.key, "evaluation": evaluations(self.config)[self.name]}

    def rows(self, prompt_set: str) -> list[Prompt]:
        """The rows of a prompt set: `report`, `harmless`, `questions`, `text`, or a further set by its name."""
        if turn := turn_of(prompt_set):
            return [said.prompt for said in self._judged_at(turn)]
        return self.prompts.named(prompt_set)

    def remembered(self, step: str, measure: Step, shared: bool = False) -> dict[str, Measure]:
        """The numbers of a step, read from the run's folder. If they are missing, they are measured and written first.

        With `shared`, they may also come from another run of the sweep. Raises DapaError if `measure` returns anything
        but measures by key.
        """

        def checked() -> dict[str, Measure]:
            try:
                return _VALUES.validate_python(measure())
            except ValidationError as error:
                raise DapaError(f"metric {step}, of the {self.name}: gave no measures by key: {error}") from error

        key = self.result_key(step) if shared else None
        return self.run.load_or_compute(self.run.files.metric(self.name, step), _VALUES, checked, key)

    def tensors(self, file: Path, owner: ModelName, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that one model left in the run's folder for others to be compared with.

        They are computed and written first if they are missing and their owner is in the engine. Raises DapaError if
        another model is.
        """
        from safetensors.torch import load, save

        from dapa_exp.models.tensors import remembered_tensors

        if self.name != owner and not file.is_file():
            raise DapaError(f"{file}: missing, and the {owner} that it was computed from is not loaded any more")
        as_file = Format[dict[str, "Tensor"]](
            lambda tensors: save({name: tensor.contiguous() for name, tensor in tensors.items()}), load
        )
        return remembered_tensors(file, lambda: self.run.share(file, self.result_key(file.stem), as_file, compute))


def answer_length(config: Config, prompt_set: str) -> tuple[str, int]:
    """The most tokens of an answer to a prompt set, after the key that says so."""
    if prompt_set != "search":
        return "evaluate.max_new_tokens", config.evaluate.max_new_tokens
    if config.search.longer_tokens:
        return "search.longer_tokens", config.search.longer_tokens
    return "search.max_new_tokens", config.search.max_new_tokens


def compared_rows(config: Config) -> int:
    """How many prompts of the report and the harmless set models are compared on, token by token or layer by layer."""
    sets = [rows for rows in (config.dataset.report, config.dataset.harmless) if rows]
    return sum(min(rows.count, config.evaluate.divergence_rows) for rows in sets)


class Metric(MetricKind):
    """Measures a model. Every model of a run is measured by the same metrics.

    A metric that needs several steps (one for each model to compare with, one for each task) overrides `steps`.
    """

    sets: ClassVar[tuple[str, ...]] = ()
    """The prompt sets that it needs. It is left out of runs that do not have them all."""
    shared: ClassVar[bool] = False
    """Whether the runs of a sweep share its numbers of teacher and student. They share answers anyway, so only numbers
    for which the model is asked anew are worth it."""

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        """What to measure of the model, by step. The numbers of each step are written as soon as they are known."""
        return {self.name: partial(self.measure, model)} if all(map(model.rows, self.sets)) else {}

    def measure(self, model: ModelInEngine) -> dict[str, Measure]:
        """The numbers of a metric that has one step, by key. A heading without `{}` does not show the key."""
        raise NotImplementedError

    def keep(self, model: ModelInEngine) -> None:
        """Called once a model is measured: write to the run's folder what later models are compared with."""

    def judged_sets(self, prompts: PromptSets) -> Iterable[str]:
        """The prompt sets whose answers the judges must see, besides the harmful ones."""
        return ()
