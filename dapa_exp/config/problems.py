"""Turns what is wrong with a config into lines a user can act on: where, what, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dapa_exp.config.schema import Config
from dapa_exp.errors import DapaError, nearest


class ConfigError(DapaError):
    """All problems of a config, or of all the configs of a sweep, at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        count = len(self.problems)
        head = "1 problem in the config:" if count == 1 else f"{count} problems in the config:"
        super().__init__("\n".join([head, *(f"  {p}" for p in self.problems)]))


def schema_keys(path: Sequence[str]) -> list[str]:
    """The keys allowed under a dotted path of the schema; empty where the path is a value or unknown."""
    return list(dict.fromkeys(key for model in _models_at(path) for key in model.model_fields))


def unknown_key(path: Sequence[str]) -> str | None:
    """What is wrong with a key that the schema does not have, or None where the key exists."""
    for depth, key in enumerate(path):
        allowed = schema_keys(path[:depth])
        if key not in allowed:
            where = ".".join(path[:depth]) or "the config"
            if not allowed:
                return f"{'.'.join(path)}: {where} is a value and has no keys"
            return f"{'.'.join(path)}: unknown key;{nearest(key, allowed)} {where} has: {', '.join(allowed)}"
    return None


def problems_of(body: dict[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Every (key path, message) in which a composed config departs from the schema."""
    found = [(path, "mandatory value is missing") for path in _missing(body)]
    try:
        Config.model_validate(body)
    except ValidationError as error:
        known = {path for path, _ in found}
        for item in error.errors():
            path = _without_tag(tuple(str(part) for part in item["loc"]))
            if path not in known:
                found.append((path, _message(path, dict(item))))
    return found


def _message(path: tuple[str, ...], item: dict[str, Any]) -> str:
    value = item["input"]
    match item["type"]:
        case "extra_forbidden":
            allowed = schema_keys(path[:-1])
            return f"unknown key;{nearest(path[-1], allowed)} allowed: {', '.join(allowed)}"
        case "missing":
            return "mandatory key is missing"
        case "literal_error":
            allowed = item["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"is {value!r};{nearest(str(value), allowed)} allowed: {', '.join(allowed)}"
        case "union_tag_invalid":
            allowed = item["ctx"]["expected_tags"].replace("'", "").split(", ")
            tag = item["ctx"]["tag"]
            return f"method is {tag!r};{nearest(tag, allowed)} allowed: {', '.join(allowed)}"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            said = item["msg"].removeprefix("Input ")
            return f"is {value!r}; it {said[0].lower()}{said[1:]}"


def _without_tag(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path as it stands in the files: pydantic puts the chosen method's name between group and key."""
    return path[:1] + path[2:] if path[0] == "transplant" and len(path) > 1 else path


def _missing(body: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield from _missing(value, (*path, str(key)))
    elif body == "???":
        yield path


def _models_at(path: Sequence[str]) -> list[type[BaseModel]]:
    """The classes that may stand at a path: several where a `method` decides which."""
    models: list[type[BaseModel]] = [Config]
    for key in path:
        fields = [model.model_fields[key] for model in models if key in model.model_fields]
        kinds = [kind for field in fields for kind in (field.annotation, *get_args(field.annotation))]
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models
