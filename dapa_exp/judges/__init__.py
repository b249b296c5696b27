"""Who decides what a completion is. A judge sees prompts and completions, never a model of the pair.

Each file of this package that registers settings (`JudgeSettings.registry`) adds a judge; nothing lists them.
"""

from dapa_exp.config.schema import JudgeSettings
from dapa_exp.judges.contract import DEFENDED, Judge, Verdict


def make_judge(settings: JudgeSettings) -> Judge:
    """The judge that a config describes, with its model loaded where it has one.

    Raises DapaError where the model, the key or a package that it needs is not there.
    """
    judge: Judge = settings.make()
    judge.sees = settings.sees()
    return judge


__all__ = ["DEFENDED", "Judge", "Verdict", "make_judge"]
