"""Describes the problems of a config, one line each: which key, what is wrong, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.config.schema import Config


class ConfigError(DapaError):
    """All problems of a config, or of all configs of a sweep, in one error."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        count = len(self.problems)
        head = "1 problem in the config:" if count == 1 else f"{count} problems in the config:"
        super().__init__("\n".join([head, *(f"  {p}" for p in self.problems)]))


def schema_keys(path: Sequence[str]) -> list[str]:
    """The keys that the schema allows under a key path; an empty list if the path is a value or unknown."""
    return list(dict.fromkeys(key for kind in _kinds_at(path) for key in _fields(kind)))


def unknown_key(path: Sequence[str]) -> str | None:
    """The problem of a key that the schema does not have; None if the key exists."""
    for depth, key in enumerate(path):
        allowed = schema_keys(path[:depth])
        if key not in allowed and not any(get_origin(kind) is dict for kind in _kinds_at(path[:depth])):
            where = ".".join(path[:depth]) or "the config"
            if not allowed:
                return f"{'.'.join(path)}: {where} is a value and has no keys"
            return f"{'.'.join(path)}: unknown key.{allowed_names(key, allowed, f'Allowed in {where}')}"
    return None


Problem = tuple[tuple[str, ...], str]
"""A key path, and a message."""


def checked_config(body: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The config that a composed body describes, or None and all of its problems."""
    found: list[Problem] = [(path, f"a value is needed: {'.'.join(path)}=…") for path in _missing(body)]
    try:
        config = Config.model_validate(body)
    except ValidationError as error:
        known = {path for path, _ in found}
        for item in error.errors():
            path = tuple(str(part) for part in item["loc"])
            if path not in known:
                found.append((path, _message(path, dict(item), body)))
        return None, found
    return (None, found) if found else (config, [])


def unmeasurable(config: Config) -> str | None:
    """Why over-refusal will be null although the config asks for it: no judge can see refusals. None if one can."""
    judges = {config.judge.name: config.judge, **config.judges}
    asked = "over_refusal" in config.evaluate.metrics and (config.dataset.harmless or config.dataset.more_harmless)
    if not asked or any("refused" in judge.sees() for judge in judges.values()):
        return None
    return (
        f"over_refusal: {' and '.join(judges)} cannot tell refusals from other answers; another judge beside"
        " can (+judge@judges.refusals=phrases), or leave the metric out"
    )


def _message(path: tuple[str, ...], item: dict[str, Any], body: dict[str, Any]) -> str:
    value = item["input"]
    match item["type"]:
        case "extra_forbidden":
            allowed = _keys_of_the_chosen(path[:-1], body)
            return f"unknown key.{allowed_names(path[-1], allowed)}"
        case "missing":
            return "mandatory key is missing"
        case "literal_error":
            allowed = item["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"is {value!r}.{allowed_names(str(value), allowed)}"
        case "value_error":
            return str(item["ctx"]["error"])
        case "greater_than_equal" | "less_than_equal" as kind:
            limit, bound = ("least", "ge") if kind == "greater_than_equal" else ("most", "le")
            return f"is {value!r}; it should be at {limit} {item['ctx'][bound]}"
        case kind if kind in _WANTED:
            return f"is {value!r}; it should be {_WANTED[kind]}"
        case _:
            said = item["msg"].replace("Input ", "it ", 1)
            return f"is {value!r}; {said[0].lower()}{said[1:]}"


_WANTED = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "list_type": "a list, such as [a,b]",
    "string_type": "a text",
}
"""What a key wants, by pydantic's name of the problem."""


def _keys_of_the_chosen(path: Sequence[str], body: Any) -> list[str]:
    """The keys that the schema allows under a key path, with the `method` or `name` that the config chooses there."""
    for key in path:
        body = body.get(key, {}) if isinstance(body, dict) else {}
    kinds = _kinds_at(path)
    chosen = [
        kind
        for kind in kinds
        for tag in ("method", "name")
        if tag in _fields(kind) and body.get(tag) in get_args(_fields(kind)[tag].annotation)
    ]
    return list(dict.fromkeys(key for kind in chosen or kinds for key in _fields(kind)))


def _missing(body: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield from _missing(value, (*path, str(key)))
    elif body == "???":
        yield path


def _kinds_at(path: Sequence[str]) -> list[Any]:
    """The types allowed at a key path. There are several if a `method` or a `name` selects one of them."""
    kinds: list[Any] = [Config]
    for key in path:
        fields = [_fields(kind)[key].annotation for kind in kinds if key in _fields(kind)]
        values = [get_args(kind)[1] for kind in kinds if get_origin(kind) is dict]
        kinds = [kind for annotation in (*fields, *values) for kind in _alternatives(annotation)]
    return kinds


def _alternatives(annotation: Any) -> list[Any]:
    """The types that an annotation allows: those of a union, one by one, and those that are registered."""
    if annotation is MethodSettings:
        return [method.Settings for _, method in METHODS]
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    if annotation is JudgeSettings:
        return [settings for _, settings in JudgeSettings.registry]
    return [annotation]


def _fields(kind: Any) -> dict[str, FieldInfo]:
    """The fields of a group by the keys that they have in the files; none of a value."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in kind.model_fields.items()}
