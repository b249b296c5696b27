"""`dapa zoo`: builds and enlarges the models that this project trains itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from textwrap import fill

from dapa_exp.base.progress import display
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import RECIPES
from dapa_exp.zoo.shapes import shapes


def zoo_command(words: list[str]) -> int:
    """Parse the words and build, or enlarge, models of the zoo."""
    parser = argparse.ArgumentParser(prog="dapa zoo", description="Models that this project trains itself.")
    verbs = parser.add_subparsers(required=True, metavar="{build,enlarge}")
    about = "train miniatures into your cache, once"
    parse_build = verbs.add_parser(
        "build",
        help=about,
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # another one breaks names at their hyphens
        epilog=fill(f"The models: {', '.join(RECIPES)}", 100, break_on_hyphens=False),
    )
    parse_build.add_argument("names", nargs="*", metavar="NAME", help="a model; default: all miniatures")
    parse_build.set_defaults(carry_out=_build)
    about = "write a miniature in the shape of a real model: the same answers, at that model's size"
    parse_enlarge = verbs.add_parser("enlarge", help=about, description=about)
    parse_enlarge.add_argument("model", help="a miniature of the zoo, such as llama-small-chat")
    parse_enlarge.add_argument(
        "shape",
        help=f"{', '.join(shapes())}; or KEY=NUMBER,… with keys of config.json; or a name, then the keys that differ",
    )
    parse_enlarge.add_argument("out", type=Path, help="the checkpoint folder to write")
    parse_enlarge.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parse_enlarge.set_defaults(carry_out=_enlarge)
    arguments = parser.parse_args(words)
    carry_out: Callable[[argparse.Namespace], int] = arguments.carry_out
    return carry_out(arguments)


def _build(arguments: argparse.Namespace) -> int:
    with display() as progress:
        build(arguments.names or None, progress)
    for name in arguments.names:
        print(f"{name}: {store.path(name)}")
    return 0


def _enlarge(arguments: argparse.Namespace) -> int:
    from dapa_exp.zoo.enlarge import enlarge  # loads torch

    name = arguments.model.removeprefix("zoo:")
    with display() as progress:
        build([name], progress)
    enlarge(name, arguments.shape, arguments.out, arguments.dtype)
    print(f"{arguments.out}: {name} in the shape {arguments.shape}")
    return 0
