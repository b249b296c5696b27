"""The cache of built zoo models, and the check that a cached model is complete.

A model is a folder of the user's cache. Its name contains the digest of its recipe. It is written under a temporary
name, the manifest last, and then renamed. So a folder with a manifest was complete once; the file digests in the
manifest tell whether it still is. The digest of a file is cached, and computed again only if the file's size or times
have changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from dapa_exp.base.digests import ZOO_MANIFEST, cache_root, file_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic, leftovers, remove
from dapa_exp.zoo.recipe import digest, find

MANIFEST = ZOO_MANIFEST


def path(name: str) -> Path:
    """The checkpoint folder of a built model. Raises DapaError if it is missing or damaged."""
    fault = _fault(name)
    if fault:
        raise DapaError(f"The zoo's model '{name}' {fault}. Run: dapa zoo build {name}")
    return _folder(name)


def is_built(name: str) -> bool:
    """Whether a model is in the cache and complete."""
    return _fault(name) is None


def manifest(name: str) -> dict[str, Any]:
    """The manifest of a built model: its name, digest, recipe, seconds, quality and files."""
    return json.loads((path(name) / MANIFEST).read_text())


def lock(name: str) -> FileLock:
    """The file lock that a process holds while it builds this model."""
    _folder(name).parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{_folder(name)}.lock")


def write(name: str, known: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Store a model: `fill` writes the checkpoint to a temporary folder, which gets a manifest and is renamed.

    `known` is the manifest's content beside the file digests. The caller must hold the model's lock.
    """
    folder = _folder(name)
    for left in leftovers(folder.parent, folder.name):
        remove(left)
    with atomic(folder) as part:
        part.mkdir()
        fill(part)
        files = {file.name: _described(file) for file in sorted(part.iterdir())}
        found = {"name": name, "digest": digest(name), "recipe": asdict(find(name)), **known, "files": files}
        (part / MANIFEST).write_text(json.dumps(found, indent=2) + "\n")


def _folder(name: str) -> Path:
    return cache_root() / "zoo" / f"{name}-{digest(name)[:12]}"


def _fault(name: str) -> str | None:
    """What is wrong with a model's folder, as the end of a sentence; None if it is complete."""
    folder = _folder(name)
    if not folder.is_dir():
        return "is not built yet"
    try:
        files: dict[str, dict[str, Any]] = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return f"is broken (no readable {MANIFEST} in {folder})"
    for file, described in files.items():
        if not (folder / file).is_file() or (folder / file).stat().st_size != described["size"]:
            return f"is broken ({folder / file} is missing or cut short)"
        if file_digest(folder / file) != described["sha256"]:
            return f"is broken ({folder / file} was changed)"
    return None


def _described(file: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file, by key."""
    with file.open("rb") as stream:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
