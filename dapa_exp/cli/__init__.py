"""Every command of `dapa`, and composing: Hydra is known in this package only."""

from dapa_exp.cli.dispatch import main

__all__ = ["main"]
