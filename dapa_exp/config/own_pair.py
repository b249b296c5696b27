"""Names for a pair that no file describes: they are made of its models' ids (conf/pair/own.yaml)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dapa_exp.base.files import expanded

ZOO = "zoo:"


def name_by_models(body: Any) -> Any:
    """A config with names for its pair and family, where they are null, and with what the ids say of the models.

    A config without a family or a pair is returned as it is: its problems are reported elsewhere.
    """
    if not all(isinstance(body, Mapping) and isinstance(body.get(key), Mapping) for key in ("family", "pair")):
        return body
    student, teacher = _id(body["pair"].get("student")), _id(body["family"].get("teacher"))
    body = {**body, "family": {**body["family"]}, "pair": {**body["pair"]}}
    family, pair = body["family"], body["pair"]
    if "name" in family and family["name"] is None:
        family["name"] = _short(teacher)
        if family.get("title") is None:
            family["title"] = f"taught by {_short(teacher)}"
        if family.get("made_here") is None:
            family["made_here"] = student.startswith(ZOO) or teacher.startswith(ZOO)
    if "name" in pair and pair["name"] is None:
        pair["name"] = f"{_short(student)}+{_short(teacher)}"
    return body


def _id(model: Any) -> str:
    """A model's id; any other text where there is none."""
    return str(model.get("id") if isinstance(model, Mapping) else model)


def _short(model: str) -> str:
    """A model's id as a folder's name: a hub id whole, of a path its last two parts, which tell checkpoints apart."""
    if model.startswith(ZOO):
        words = model.removeprefix(ZOO)
    elif model.startswith(("/", "./", "../", "~")):
        words = "--".join(expanded(model).resolve().parts[-2:])
    else:
        words = model.replace("/", "--")
    return re.sub(r"[^\w.-]+", "-", words).strip("-.") or "unnamed"
