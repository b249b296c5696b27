"""What a model's card, its README.md, says of it."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report
from dapa_exp.config.models import Model
from dapa_exp.models.source import source_of

CARD = "README.md"


def base_in_card(model: Model, report: Report) -> str | None:
    """The model that this one was tuned from, by `base_model` in its card.

    None if there is no readable card, or it does not name exactly one model.
    """
    from huggingface_hub import metadata_load

    try:
        file = _card(model, report)
        said = (metadata_load(file) or {}).get("base_model") if file else None
    except (DapaError, ValueError, OSError):  # no such repository or file, or no YAML
        return None
    names = [said] if isinstance(said, str) else said
    return names[0] if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) else None


def _card(model: Model, report: Report) -> Path | None:
    source = source_of(model)
    if (file := source.file(CARD)) or not source.remote:
        return file
    from dapa_exp.models.hub import fetch, repository_of

    repository, _ = repository_of(model)
    file = fetch(repository, model.revision, (CARD,), report) / CARD
    return file if file.is_file() else None
