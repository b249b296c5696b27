"""The config groups of models: families, pairs, and the checkpoints that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dapa_exp.base.files import expanded
from dapa_exp.config.group import Group
from dapa_exp.config.names import Count, FolderName


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


def model_id(word: str) -> str:
    """The id of a model that a command line names. A relative path that exists is a path, whatever the hub has."""
    if not word.startswith(("/", "./", "../", "~", "zoo:")) and Path(word).exists():
        return f"./{word}"
    return word


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
