"""Who decides what a completion is. A judge sees prompts and completions, never a model of the pair."""

from dapa_exp.judges.contract import DEFENDED, Judge, Verdict
from dapa_exp.judges.registry import judge_version, make_judge

__all__ = ["DEFENDED", "Judge", "Verdict", "judge_version", "make_judge"]
