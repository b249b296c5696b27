"""SHA-256 digests of files and folders. Large files are read once; the result is kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from platformdirs import user_cache_dir

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically

SETTINGS = (
    "*.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    "*.tiktoken",
)
"""The files of a checkpoint that are no weights: configs, tokenizer and chat templates."""
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin")
ZOO_MANIFEST = "manifest.json"
"""The file in a zoo model's folder that describes the model: name, recipe, digests, quality."""


def cache_root() -> Path:
    """The folder that keeps models, downloads and digests between runs: $DAPA_CACHE, else the user's cache folder."""
    return Path(os.environ.get("DAPA_CACHE") or user_cache_dir("dapa_exp"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises DapaError if the file cannot be read."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DapaError(f"{path}: {error.strerror}") from error
    # The cached digest is found by size, mtime and ctime. Size and mtime are not enough: two checkpoints of one
    # architecture have the same size, and archive and copy tools can set any mtime. No tool can set the ctime.
    return _digest_of(path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def folder_digest(folder: Path) -> str:
    """SHA-256, in hex, over the names and digests of a checkpoint folder's configs, tokenizer and weights.

    `folder` may also be one file, such as a GGUF file: then the file's own digest. An adapter's digest includes that of
    the folder which it names as its base. Raises DapaError if the folder is missing, or an adapter is its own base.
    """
    if folder.is_file():
        return file_digest(folder)
    if not folder.is_dir():
        raise DapaError(f"{folder}: no such folder")
    if len(folders := adapter_folders(folder)) > 1:
        return hashlib.sha256("|".join(map(_own_digest, folders)).encode()).hexdigest()
    return _own_digest(folder)


def adapter_folders(folder: Path) -> list[Path]:
    """A folder and, where it holds an adapter, the folder of its base, and so on. Raises DapaError on a circle."""
    found = [folder]
    while base := _base_folder(found[-1]):
        if any(base.samefile(known) for known in found):
            raise DapaError(
                f"{found[-1]}/adapter_config.json: base_model_name_or_path leads back to the adapter itself"
            )
        found.append(base)
    return found


def _base_folder(folder: Path) -> Path | None:
    with suppress(OSError, ValueError, KeyError, TypeError):  # loading reports a broken adapter
        name = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        return Path(name) if name and Path(name).is_dir() else None
    return None


def _own_digest(folder: Path) -> str:
    weights = {file for pattern in WEIGHTS for file in folder.glob(pattern)}
    return files_digest({*settings_files(folder), *weights, *_shards_below(folder)})


def settings_files(folder: Path) -> set[Path]:
    """The configs, the tokenizer and the chat templates of a checkpoint."""
    return {file for pattern in SETTINGS for file in folder.glob(pattern)}


def _shards_below(folder: Path) -> set[Path]:
    """The weight files that an index lists in a subfolder of `folder`."""
    named: set[str] = set()
    for index in folder.glob("*.index.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # loading reports a broken index
            named |= {shard for shard in json.loads(index.read_text())["weight_map"].values() if "/" in shard}
    return {folder / shard for shard in named if (folder / shard).is_file()}


def files_digest(files: Iterable[Path]) -> str:
    """SHA-256, in hex, over the names and digests of files of one folder. Their order does not matter."""
    listing = [(p.name, file_digest(p)) for p in sorted(files)]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


@cache
def _digest_of(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    key = hashlib.sha256(f"{path}|{size}|{mtime_ns}|{ctime_ns}".encode()).hexdigest()
    kept = cache_root() / "digests" / key
    if kept.is_file() and len(digest := kept.read_text()) == 64:
        return digest
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):  # a cache that cannot be written costs only time
        write_atomically(kept, digest)
    return digest
