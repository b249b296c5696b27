"""Judges: each gives verdicts on answers. A judge sees prompts and answers, never a model of the pair.

A file of this package that registers settings with `JudgeSettings.registry` adds a judge. No other file lists it.
"""

from dapa_exp.config.judge import JudgeSettings
from dapa_exp.judges.contract import DEFENDED, Judge, Verdict


def make_judge(settings: JudgeSettings) -> Judge:
    """The judge that a config describes. If it has a model, the model is loaded.

    Raises DapaError if the model, the API key or a package that it needs is missing.
    """
    judge: Judge = settings.make()
    judge.sees = settings.sees()
    return judge


__all__ = ["DEFENDED", "Judge", "Verdict", "make_judge"]
