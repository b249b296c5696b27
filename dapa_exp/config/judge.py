"""The config group `judge`: what a config says of a judge, and what a judge says of itself."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from dapa_exp.base.errors import allowed_names
from dapa_exp.base.registry import Registry
from dapa_exp.config.group import Group
from dapa_exp.config.models import Model


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


class JudgeSettings(Group):
    """What a config says of a judge, and what each judge says of itself: its file registers a subclass of this.

    A field of this class takes the keys of any of them: `name` tells which. A subclass names its `version`, to be
    raised whenever one of its verdicts could change: its rule, its words, or how a reply is read.
    """

    registry: ClassVar[Registry[type[JudgeSettings]]] = Registry("judge", "dapa_exp.judges")
    version: ClassVar[str]
    no_identity: ClassVar[frozenset[str]] = frozenset()
    """Keys that cannot move a verdict, such as how a server is reached."""
    name: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if "registry" in vars(cls):  # this class itself
            return core_schema.no_info_before_validator_function(cls.of, core_schema.any_schema())
        return handler(source)

    @classmethod
    def of(cls, said: Any) -> JudgeSettings:
        """The settings that a mapping describes. Raises ValueError, or ValidationError for the keys of one of them."""
        if isinstance(said, cls):
            return said
        name = said.get("name") if isinstance(said, dict) else None
        if name is None or name not in cls.registry:
            raise ValueError(f"name is {name!r}.{allowed_names(str(name), cls.registry.names())}")
        return cls.registry.get(name).model_validate(said)

    @classmethod
    def defaults(cls, name: str) -> dict[str, Any]:
        """The content of a YAML file that only names this judge: its defaults, and "???" for keys without a default."""
        keys = {
            key: "???" if field.is_required() else TypeAdapter(Any).dump_python(field.get_default(), mode="json")
            for key, field in cls.model_fields.items()
        }
        return keys | {"name": name}

    def sees(self) -> frozenset[JudgedOutcome]:
        """Which of the outcomes it can tell from others. One that sees no refusals cannot measure over-refusal."""
        raise NotImplementedError

    def needs(self) -> JudgeNeeds:
        """What must be here before it can judge."""
        return JudgeNeeds()

    def sends_to(self) -> str | None:
        """The address that answers are sent to; None if they stay on this machine."""
        return None

    def make(self) -> Any:
        """The judge (`dapa_exp.judges.Judge`), its model loaded. Raises DapaError where what it needs is not here."""
        raise NotImplementedError
