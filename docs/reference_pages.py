"""Writes the reference pages of the docs site: commands, config and record, from the code that defines them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from inspect import cleandoc
from io import StringIO
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from dapa_exp.base.files import write_atomically
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import USAGE, VERBS, main
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.registries import METHODS
from dapa_exp.config.schema import Config
from dapa_exp.record.schema import Record

CONF = Path(__file__).parents[1] / "conf"
ANY_PAIR = ("pair=own", "pair.student.id=STUDENT", "family.teacher.id=TEACHER", "runtime=cpu")

PYTHON = {
    "Results": ("analysis", "dapa_exp.record.layout"),
    "Contracts for files of your own": (
        *("dapa_exp.search.algorithm", "dapa_exp.search.problem", "dapa_exp.search.evidence"),
        *("dapa_exp.transplant.methods.contract", "dapa_exp.judges.contract", "dapa_exp.evaluate.metric"),
        *("analysis.registry", "analysis.measures", "analysis.tables.table"),
    ),
    "The method": ("dapa_exp.run", "dapa_exp.models.architecture", "dapa_exp.transplant.plan"),
}
"""The modules of the page about Python, by heading."""


def write(folder: Path) -> None:
    """Write all pages."""
    pages = {"commands": commands(), "config": config(), "record": record(), "python": python()}
    for name, lines in pages.items():
        write_atomically(folder / f"{name}.md", "\n".join(lines) + "\n")


def commands() -> Iterator[str]:
    """The help of each verb."""
    yield from ("# Commands", "", "```text", USAGE.strip(), "```")
    for verb in VERBS:
        yield from ("", f"## dapa {verb}", "", "```text", _help(verb), "```")


def _help(verb: str) -> str:
    said = StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main([verb, "--help"])
    return said.getvalue().strip()


def config() -> Iterator[str]:
    """Each config group: the files to choose from, and the keys with type, default and meaning."""
    (job,) = jobs([*ANY_PAIR])
    defaults = job.config.model_dump(mode="json", by_alias=True)
    yield from ("# Config", "", "Every key can be overridden on the command line: `dapa run search.threshold=0.8`.")
    yield "The defaults below are those of `dapa run` with a pair that no file describes (`pair=own`)."
    for group, field in Config.model_fields.items():
        yield from ("", f"## {group}", "")
        files = sorted(file.stem for file in (CONF / group).glob("[!_]*.yaml"))
        yield from (f"`{group}=` {', '.join(f'`{name}`' for name in files)}", "") if files else ()
        if group == "transplant":
            for name, settings in METHODS:
                yield from (f"### transplant={name}", "", *_table(settings.Settings, {}))
        elif group in ("judge", "judges"):
            for name, settings in JudgeSettings.registry if group == "judge" else ():
                yield from (f"### judge={name}", "", *_table(settings, {}))
        else:
            (settings,) = {*(get_args(field.annotation) or [field.annotation])} - {NoneType}  # X of `X | None`
            yield from _table(settings, defaults[group] or {})


def _table(model: type[BaseModel], defaults: Mapping[str, Any]) -> Iterator[str]:
    """The docstring and the keys of one class; a key that is itself a group has its keys below it."""
    yield from (cleandoc(model.__doc__ or ""), "", "| key | type | default | meaning |", "| --- | --- | --- | --- |")
    yield from (f"| `{key}` | {kind} | {value} | {text} |" for key, kind, value, text in _rows(model, defaults, ""))
    yield ""


def _rows(model: type[BaseModel], defaults: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        default = defaults.get(key, None if field.is_required() else field.get_default())
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, default if isinstance(default, Mapping) else {}, f"{above}{key}.")
        else:
            kind = _kind(TypeAdapter(field.rebuild_annotation()).json_schema(), {})
            known = key in defaults or not field.is_required()
            text = _cell(field.description or "")
            yield above + key, kind, f"`{json.dumps(default, default=str)}`" if known else "", text


def record() -> Iterator[str]:
    """The fields of record.json, object by object."""
    schema = Record.model_json_schema()
    named = schema.pop("$defs")
    yield from ("# Record", "", "`record.json` of a run; as a JSON Schema: `dapa_exp/record/record.schema.json`.", "")
    for name, part in {"Record": schema, **named}.items():
        yield from (f"## {name}", "", part.get("description", ""), "")
        if "properties" in part:
            yield from ("| field | type | meaning |", "| --- | --- | --- |")
            for key, value in part["properties"].items():
                yield f"| `{key}` | {_kind(value, named)} | {_cell(value.get('description', ''))} |"
            yield ""


def _kind(schema: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if name in named else name
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one, named) for one in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"[{', '.join(_kind(one, named) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), named)}"
    if schema.get("type") == "object":
        return f"by name: {_kind(schema.get('additionalProperties') or {}, named)}"
    limits = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    said = [f"{sign} {schema[key]:g}" for key, sign in limits.items() if key in schema]
    return " ".join([schema.get("type", "any"), *said])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def python() -> Iterator[str]:
    """The docstrings of the modules that a file of one's own uses."""
    yield "# Python"
    for heading, modules in PYTHON.items():
        yield from ("", f"## {heading}", "")
        for module in modules:
            yield from (f"### {module}", "", "```{eval-rst}", f".. automodule:: {module}", "```", "")
