"""Judges by the name that a config gives them. What a judge needs is imported when it is made."""

from __future__ import annotations

from dapa_exp.config.schema import Chat, Classifier, DapaPaper, Guard, Judge as JudgeConfig, JudgeZoo, Phrases
from dapa_exp.judges.contract import Judge
from dapa_exp.judges.versions import VERSIONS


def make_judge(config: JudgeConfig) -> Judge:
    """The judge that a config describes, with its model loaded where it has one.

    Raises DapaError where the model, the key or a package that it needs is not there.
    """
    match config:
        case Chat():
            from dapa_exp.judges.chat import ChatJudge

            return ChatJudge(config)
        case DapaPaper():
            from dapa_exp.judges.dapa_paper import DapaPaperJudge

            return DapaPaperJudge(config)
        case Classifier():
            from dapa_exp.judges.classifier import ClassifierJudge

            return ClassifierJudge(config)
        case Guard():
            from dapa_exp.judges.guard import GuardJudge

            return GuardJudge(config)
        case JudgeZoo():
            from dapa_exp.judges.published import JudgeZooJudge

            return JudgeZooJudge(config)
        case Phrases():
            from dapa_exp.judges.phrases import PhraseJudge

            return PhraseJudge()


def judge_version(config: JudgeConfig) -> str:
    """The version of the config's judge, without making it."""
    return VERSIONS[config.name]
