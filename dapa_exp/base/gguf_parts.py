"""Refuses one part of a GGUF model that is split into several files."""

from __future__ import annotations

import re

from dapa_exp.base.errors import DapaError

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def refuse_part(name: str, parts: int | None = None) -> None:
    """Raise a DapaError if a GGUF file is one of several parts.

    `parts` is the count in the file's own header; without it, the file name tells (`-00001-of-00003.gguf`).
    """
    if (match := _PART.search(name)) and parts is None:
        parts = int(match[1])
    if parts is not None and parts > 1:
        raise DapaError(
            f"{name}: one of {parts} parts of a model; only a whole file is read:"
            " llama-gguf-split --merge FIRST_PART WHOLE makes one of them"
        )
