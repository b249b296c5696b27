"""Reads back what a finished run's folder holds. A newer judge or identity does not matter to a reader."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Config
from dapa_exp.record.schema import Record, damage


def finished_config(folder: Path) -> Config:
    """The config that a run was carried out with. Raises DapaError where the folder is not a run's."""
    file = folder / "config.yaml"
    try:
        return Config.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    except OSError as error:
        raise DapaError(f"{file}: {error.strerror}; this needs the folder of a run") from error
    except (ValueError, yaml.YAMLError) as error:
        raise DapaError(f"{file}: not the config of a run: {error}") from error


def finished_record(folder: Path) -> Record:
    """The record of a run. Raises DapaError where the run is not finished or its record is damaged."""
    file = folder / "record.json"
    if not file.is_file():
        raise DapaError(f"{folder}: no record.json, so the run is not finished")
    try:
        return Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DapaError(f"{file}: not a valid record: {damage(error)}") from error
