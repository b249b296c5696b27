"""Results that the runs of a sweep share: what one run measures of a teacher or student, no other run measures again.

An entry is found by its key, which holds everything that can change the result. The file of an entry is a line of JSON
(the key, the run that computed it, a digest of what follows) and then the result. A process that computes an entry
holds a claim on it, and others wait. The claim of a process that is killed is taken over.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from dapa_exp.base.claim import HeldError, hold
from dapa_exp.base.files import leftovers, remove, write_atomically
from dapa_exp.record.log import note

Key = Mapping[str, Any]
"""Everything that a result depends on, JSON-serialisable. `what` names the kind of result."""
SAID_AFTER = 30.0
"""Seconds to wait for another run before the log says so."""
T = TypeVar("T")


@dataclass(frozen=True)
class Format(Generic[T]):
    """How a result is written and read."""

    dump: Callable[[T], bytes]
    load: Callable[[bytes], T]
    """Raises ValueError if the content is no such result."""


def json_format(schema: TypeAdapter[T]) -> Format[T]:
    """A result as JSON."""
    return Format(schema.dump_json, schema.validate_json)


@dataclass(frozen=True)
class Found(Generic[T]):
    """A result, the run that computed it, and the seconds that were spent waiting for it."""

    value: T
    run: str
    waited: float = 0.0


def find_or_compute(
    folder: Path, key: Key, form: Format[T], run: str, compute: Callable[[], T], is_whole: Callable[[T], bool]
) -> Found[T]:
    """The result that `folder` holds for this key. If it holds none, compute it and keep it as this run's.

    A result that is not whole is returned and not kept. A damaged entry is computed anew. `compute` may ask for the
    entries that this one is made of.
    """
    name = _name(key)
    file = folder / name
    if (found := _read(file, key, form)) is not None:
        return found
    with turn(folder, key) as waited:
        if (found := _read(file, key, form)) is not None:
            return Found(found.value, found.run, waited)
        for left in leftovers(folder, name):
            remove(left)
        value = compute()
        if is_whole(value):
            content = form.dump(value)
            write_atomically(file, _head(key, run, content) + b"\n" + content)
        return Found(value, run, waited)


@contextmanager
def turn(folder: Path, key: Key) -> Iterator[float]:
    """Wait until no other process has its turn with this key, and yield the seconds that it took.

    After SAID_AFTER seconds the log says who is waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started, name = time.monotonic(), folder / f".{_name(key)}"
    with ExitStack() as held:
        try:
            held.enter_context(hold(name, SAID_AFTER))
        except HeldError as owner:
            note(f"{key['what']}: waits for another run of the sweep, which works on the same: {owner}")
            held.enter_context(hold(name, math.inf))
        yield time.monotonic() - started


def _name(key: Key) -> str:
    return f"{key['what']}-{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}"


def _read(file: Path, key: Key, form: Format[T]) -> Found[T] | None:
    """The result in a file; None, and a line in the log, if the file is damaged."""
    if not file.is_file():
        return None
    head, _, content = file.read_bytes().partition(b"\n")
    try:
        run = str(json.loads(head)["run"])
        if head != _head(key, run, content):
            raise ValueError("its content is not what its first line says")
        return Found(form.load(content), run)
    except (ValueError, KeyError, TypeError) as error:
        note(f"{file}: damaged ({error}): computed anew")
        return None


def _head(key: Key, run: str, content: bytes) -> bytes:
    return _text({"run": run, "sha256": hashlib.sha256(content).hexdigest(), "key": key}).encode()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
