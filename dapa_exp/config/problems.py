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
    model = _model_at(path)
    return list(model.model_fields) if model else []


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
            path = tuple(str(part) for part in item["loc"])
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
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            said = item["msg"].removeprefix("Input ")
            return f"is {value!r}; it {said[0].lower()}{said[1:]}"


def _missing(body: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield from _missing(value, (*path, str(key)))
    elif body == "???":
        yield path


def _model_at(path: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Config
    for key in path:
        field = model.model_fields.get(key)
        kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)] if field else []
        models = [k for k in kinds if issubclass(k, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model
