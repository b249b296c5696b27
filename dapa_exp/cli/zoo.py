"""`dapa zoo`: the models that are made here."""

from __future__ import annotations

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import display
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build


def zoo_command(words: list[str]) -> int:
    """`dapa zoo build [NAME...]`: all miniatures, or the named models, whose folders it prints."""
    if not words or words[0] != "build":
        raise DapaError("dapa zoo knows one word: build")
    names = words[1:]
    with display() as progress:
        build(names or None, progress)
    for name in names:
        print(f"{name}: {store.path(name)}")
    return 0
