"""The model hub: fetches the files of a repository, shows how far it is, and says in words what went wrong.

What is whole in the cache is never fetched again; a connection that breaks is taken up where it broke.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import constants, get_session, get_token, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from dapa_exp.base.digests import file_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.gguf_parts import refuse_part
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.models import Model

FAILURES = (HTTPError, OSError, RuntimeError, ValueError)
"""What huggingface_hub and what it stands on raise where something cannot be had."""
TOKENIZER = (
    "*.jinja",
    "*.model",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "*.tiktoken",
)
"""Files that turn text into tokens."""
CONFIGS = ("*.json", *TOKENIZER)
WHOLE = "model*.safetensors"
SAFE = (WHOLE, "adapter_model.safetensors")
PICKLED = ("pytorch_model*.bin",)
_MEGABYTE = 1_000_000
_SHA256 = re.compile("[0-9a-f]{64}")

for _client in ("httpx", "httpx2"):
    logging.getLogger(_client).setLevel(logging.WARNING)  # they log every request, and Hydra shows what is logged


def fetch(repository: str, revision: str | None, patterns: Sequence[str], report: Report) -> Path:
    """The cached folder of a repository, with every file that matches a pattern.

    Raises DapaError where they cannot be had, or are not what the hub says they are.
    """
    name = named(repository, revision)
    be_patient()
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=list(patterns), tqdm_class=_bars(name, report)
        )
    except FAILURES as error:
        raise explained(repository, revision, error) from error
    _verify(name, Path(folder), report)
    return Path(folder)


def fetch_model(model: Model, weights: bool, report: Report) -> Path:
    """The folder of a hub repository or, for an id of the form `owner/name/file.gguf`, that file."""
    repository, file = repository_of(model)
    if file:
        patterns: tuple[str, ...] = (file,)
    else:
        patterns = (*CONFIGS, *SAFE) if weights else CONFIGS
    folder = fetch(repository, model.revision, patterns, report)
    if not file:
        refuse_unnamed(model, [found.name for found in folder.iterdir()])
    if weights and not file and needs_pickle(model, folder):  # else the same would come twice
        fetch(repository, model.revision, PICKLED, report)
    if file and not (folder / file).is_file():
        raise DapaError(f"{named(model.id, model.revision)}: the repository has no such file")
    return folder / file if file else folder


def refuse_unnamed(model: Model, names: Collection[str]) -> None:
    """Raise a DapaError where a repository, whose files have these names, holds no checkpoint but GGUF files.

    They are not downloaded as long as none is named, and which of them is meant nobody knows.
    """
    if {"config.json", "adapter_config.json"}.isdisjoint(names):
        files = sorted(name for name in names if name.endswith(".gguf"))
        name_one = f"; of its GGUF files name one, such as {model.id}/{files[0]}" if files else ""
        raise DapaError(f"{named(model.id, model.revision)}: no config.json there, so no checkpoint{name_one}")


def needs_pickle(model: Model, folder: Path) -> bool:
    """Whether a checkpoint's pickled weights are to be read: where that is allowed, and there are no others."""
    return model.allow_pickle and not any(folder.glob(WHOLE))


def repository_of(model: Model) -> tuple[str, str | None]:
    """The repository that a hub id names and, for an id of the form `owner/name/file.gguf`, the file in it.

    Raises DapaError where it is neither, and where that file is a part of a model.
    """
    if not model.id.endswith(".gguf"):
        return model.id, None
    if model.id.count("/") < 2:
        raise DapaError(
            f"{model.id}: a GGUF file on the hub is named owner/name/file.gguf, one here starts with / or ./"
        )
    refuse_part(model.id)
    owner, title, file = model.id.split("/", 2)
    return f"{owner}/{title}", file


def weight_files(model: Model) -> tuple[str, ...]:
    """Patterns of the weights that are read. Not all safetensors: some repositories hold the same ones twice."""
    return (*SAFE, *(PICKLED if model.allow_pickle else ()))


def named(repository: str, revision: str | None) -> str:
    """A repository as users write it."""
    return f"{repository}@{revision}" if revision else repository


def be_patient() -> None:
    """Give up on a silent hub after HF_HUB_ETAG_TIMEOUT or HF_HUB_DOWNLOAD_TIMEOUT seconds.

    For some requests, such as the list of a repository's files, huggingface_hub would wait for ever.
    """
    session = get_session()
    hooks = session.event_hooks
    if _limit_waiting not in hooks["request"]:
        session.event_hooks = {**hooks, "request": [*hooks["request"], _limit_waiting]}


def _limit_waiting(request: Any) -> None:
    most = max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    asked = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        phase: min(asked.get(phase) or most, most) for phase in ("connect", "read", "write", "pool")
    }


def explained(repository: str, revision: str | None, error: BaseException, kind: str = "") -> DapaError:
    """What an error of huggingface_hub means for the user. `kind` is the start of the page's path, as `datasets/`."""
    return DapaError(f"{_explained(repository, revision, error, kind)}{beside(repository)}")


def beside(repository: str) -> str:
    """How to name the folder of this name that is here, where there is one: it may be what is meant."""
    return f". There is a folder {repository} here, which is named ./{repository}" if Path(repository).is_dir() else ""


def _explained(repository: str, revision: str | None, error: BaseException, kind: str) -> str:
    name, page = named(repository, revision), f"{constants.ENDPOINT}/{kind}{repository}"
    match error:
        case GatedRepoError():
            who = "with the account of the token that is set" if get_token() else "and log in (hf auth login)"
            return f"{name}: gated: accept its licence at {page} {who}"
        case RevisionNotFoundError():
            return f"{name}: the repository has no such revision"
        case RepositoryNotFoundError():
            token = "the token that is set may not see it" if get_token() else "no token is set"
            return f"{name}: not on the hub ({page}), or private and {token}"
        case LocalEntryNotFoundError():
            return f"{name}: {unreached(error.__cause__ or error)}, and no copy is cached"
        case EntryNotFoundError():
            return f"{name}: the repository lacks a file: {error}"
        case HfHubHTTPError():
            return f"{name}: the hub answered {error.response.status_code} ({error.response.url})"
        case HTTPError():
            return f"{name}: {unreached(error)}; what is whole is kept, and the same command goes on"
    return f"{name}: cannot be downloaded: {error}"


def unreached(error: BaseException) -> str:
    """Why the hub did not answer."""
    return f"the hub ({constants.ENDPOINT}) cannot be reached ({type(error).__name__}: {error})"


def _verify(name: str, folder: Path, report: Report) -> None:
    """Large files are cached under the SHA-256 that the hub names; huggingface_hub compares no more than their size."""
    started = time.monotonic()
    large = [file for file in sorted(folder.rglob("*")) if _SHA256.fullmatch(file.resolve().name)]
    for done, file in enumerate(large, start=1):
        blob = file.resolve()
        if file_digest(blob) != blob.name:
            file.unlink()
            blob.unlink()
            raise DapaError(
                f"{name}: {file.name}: not what the hub says it is (another SHA-256); it was removed,"
                " and the same command fetches it again"
            )
        if time.monotonic() - started > 1.0:  # most often they are remembered, and nothing is worth showing
            report(Progress(f"{name}: check digests", done, len(large), file.name))


def _bars(name: str, report: Report) -> type[tqdm]:
    """A class of progress bars that draw nothing, and report the bytes of all files together."""
    lock, started = Lock(), time.monotonic()

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            # One bar counts files; of the two that count bytes, that named so guesses at its total.
            self._counts_bytes = settings.get("unit") == "B" and settings.get("desc") != "Downloading bytes"
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            with lock:
                self.n += n or 0
                if self._counts_bytes and self.total and self.total >= _MEGABYTE:
                    done, total = (int(count / _MEGABYTE) for count in (self.n, self.total))
                    pace = self.n / _MEGABYTE / max(time.monotonic() - started, 1e-3)
                    report(Progress(f"{name}: download", done, total, f"MB, {pace:.1f} MB/s"))
            return None

    return Bar
