"""Where a model comes from: the zoo, a folder or file on this machine, or the hub. No other module tells them apart.

The zoo and huggingface_hub are imported only if a config names a model of theirs. Importing huggingface_hub takes
0.3 s, which a sweep of other models need not spend.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from dapa_exp.base.digests import folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report, silent
from dapa_exp.config.models import Model

Essence = dict[str, str | None]
"""The part of a run's identity that stands for a model: an id and a revision."""


class Source(Protocol):
    """A place that holds a model."""

    @property
    def remote(self) -> bool:
        """Whether the model is on the hub."""
        ...

    @property
    def to_build(self) -> str | None:
        """The name of the zoo model that must be built before it can be located. None if nothing must be built."""
        ...

    def locate(self, weights: bool, report: Report) -> Path:
        """The model's folder or GGUF file, before any conversion. `weights` also downloads the weights from the hub.

        Raises DapaError if it is not available.
        """
        ...

    def file(self, name: str) -> Path | None:
        """The path of one of the model's files. None if the file is not on this machine."""
        ...

    def essence(self) -> Essence:
        """What identifies the model's content. Raises DapaError if the model does not exist."""
        ...


@dataclass(frozen=True)
class ZooSource:
    """A model of the zoo. The digest of its recipe identifies it."""

    model: Model
    name: str
    remote = False

    @property
    def to_build(self) -> str | None:
        from dapa_exp.zoo import store

        return None if store.is_built(self.name) else self.name

    def locate(self, weights: bool, report: Report) -> Path:
        from dapa_exp.zoo import store

        return store.path(self.name)

    def file(self, name: str) -> Path | None:
        from dapa_exp.zoo import store

        return None if self.to_build else _file(store.path(self.name), name)

    def essence(self) -> Essence:
        return {"id": self.model.id, "revision": _recipe_digest(self.name)}


@cache
def _recipe_digest(name: str) -> str:
    from dapa_exp.zoo import recipe

    return recipe.digest(name)


@dataclass(frozen=True)
class FolderSource:
    """A folder or a GGUF file on this machine. The digest of its content identifies it."""

    model: Model
    folder: Path
    remote = False
    to_build = None

    def locate(self, weights: bool, report: Report) -> Path:
        if not self.folder.exists():
            raise DapaError(f"no such {'file' if self.folder.suffix == '.gguf' else 'folder'} {self.model.id}")
        return self.folder

    def file(self, name: str) -> Path | None:
        return _file(self.folder, name)

    def essence(self) -> Essence:
        return {"id": "folder", "revision": folder_digest(self.locate(True, silent))}


@dataclass(frozen=True)
class HubSource:
    """A repository of the hub. Its id and revision identify it."""

    model: Model
    remote = True
    to_build = None

    def locate(self, weights: bool, report: Report) -> Path:
        from dapa_exp.models.hub import fetch_model

        return fetch_model(self.model, weights, report)

    def file(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(self.model.id, name, revision=self.model.revision)
        except HFValidationError:  # such as owner/name/file.gguf
            return None
        return Path(cached) if isinstance(cached, str) else None

    def essence(self) -> Essence:
        return {"id": self.model.id, "revision": self.model.revision}


def source_of(model: Model) -> Source:
    """The source that a model's id names."""
    if model.zoo_name is not None:
        return ZooSource(model, model.zoo_name)
    return FolderSource(model, model.folder) if model.folder else HubSource(model)


def _file(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None
