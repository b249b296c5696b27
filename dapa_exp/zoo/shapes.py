"""The shapes of real models, copied from their config.json, so that no network is needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def shapes() -> dict[str, Mapping[str, Any]]:
    """Each shape by its name, with the keys of config.json."""
    stored: dict[str, Mapping[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8")
    )
    return stored
