"""The commands of `dapa`, and the composition of configs. No other package uses Hydra."""

from dapa_exp.cli.dispatch import main

__all__ = ["main"]
