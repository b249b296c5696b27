"""Finds a checkpoint: in the miniature zoo, in a folder, or on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dapa_exp.config.schema import Model
from dapa_exp.errors import DapaError
from dapa_exp.zoo import store

_CONFIGS = ["*.json", "*.jinja", "tokenizer*", "*.model"]


def locate(model: Model, *, weights: bool) -> Path:
    """The folder that holds a checkpoint; from the hub, without its weights unless they are asked for.

    Raises DapaError where it cannot be had, saying why.
    """
    if model.zoo_name:
        return store.path(model.zoo_name)
    if folder := model.folder:
        if not (folder / "config.json").is_file():
            raise DapaError(f"{folder}: no config.json there, so no checkpoint")
        return folder
    return _download(model, [*_CONFIGS, "*.safetensors"] if weights else _CONFIGS)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises DapaError where it is missing or damaged."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise DapaError(f"{folder / 'config.json'}: {error}") from error
    return config


def _download(model: Model, patterns: list[str]) -> Path:
    name = model.id + (f"@{model.revision}" if model.revision else "")
    try:
        return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise DapaError(
            f"{name}: gated: accept its licence at https://huggingface.co/{model.id} and log in (hf auth login)"
        ) from error
    except RevisionNotFoundError as error:
        raise DapaError(f"{name}: the repository has no such revision") from error
    except RepositoryNotFoundError as error:
        raise DapaError(f"{name}: not on the hub, or private and no token is set") from error
    except (HfHubHTTPError, OSError) as error:
        raise DapaError(f"{name}: the hub cannot be reached and no copy is cached ({error})") from error
