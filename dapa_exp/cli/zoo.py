"""`dapa zoo`: builds and enlarges the models that this project trains itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import display
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from dapa_exp.zoo.shapes import shapes

WORDS = ("build", "enlarge")


def zoo_command(words: list[str]) -> int:
    """Models that this project trains itself.

    dapa zoo build [NAME...]: build all miniatures, or the named models, and print the folders of named ones.
    dapa zoo enlarge MODEL SHAPE OUT [--dtype bfloat16]: enlarge a miniature to a real model's shape, such as llama2-7b.
    """
    if not words or words[0] not in WORDS:
        raise DapaError(f"dapa zoo needs one of {', '.join(WORDS)} (dapa zoo --help)")
    return _enlarge(words[1:]) if words[0] == "enlarge" else _build(words[1:])


def _build(names: list[str]) -> int:
    with display() as progress:
        build(names or None, progress)
    for name in names:
        print(f"{name}: {store.path(name)}")
    return 0


def _enlarge(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dapa zoo enlarge",
        description="Lay a miniature into the shape of a real model: the same answers, at that model's size.",
    )
    parser.add_argument("model", help="a miniature of the zoo, such as llama-small-chat")
    parser.add_argument(
        "shape",
        help=f"{', '.join(shapes())}; or KEY=NUMBER,… in the words of config.json; or a name, then what differs",
    )
    parser.add_argument("out", type=Path, help="the checkpoint folder to write")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    arguments = parser.parse_args(words)
    from dapa_exp.zoo.enlarge import enlarge  # loads torch

    name = arguments.model.removeprefix("zoo:")
    with display() as progress:
        build([name], progress)
    enlarge(name, arguments.shape, arguments.out, arguments.dtype)
    print(f"{arguments.out}: {name} in the shape {arguments.shape}")
    return 0
