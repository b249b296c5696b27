"""Published judges, asked as their authors ask them, through the package judgezoo (an optional extra)."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from pydantic import Field

from dapa_exp.base.errors import DapaError
from dapa_exp.config.judge import JudgedOutcome, JudgeNeeds, JudgeSettings
from dapa_exp.config.names import Count, Share
from dapa_exp.judges.contract import Judge, Verdict
from dapa_exp.judges.defuse import defused
from dapa_exp.judges.degenerate import judged_where_language
from dapa_exp.judges.local import batches


class JudgeZoo(JudgeSettings):
    """One of the package judgezoo's published judges that run a model on this machine."""

    version: ClassVar[str] = "1"
    name: Literal["judgezoo"]
    judge: Literal[
        "harmbench", "strong_reject", "llama_guard_3", "llama_guard_4", "aegis_guard", "md_judge", "jail_judge"
    ]
    threshold: Share = Field(description="probability of harm from which an answer is harmful")
    batch_size: Count

    def sees(self) -> frozenset[JudgedOutcome]:
        return frozenset({"harmless", "harmful"})

    def needs(self) -> JudgeNeeds:
        return JudgeNeeds(extra="judgezoo", package="judgezoo")

    def make(self) -> JudgeZooJudge:
        return JudgeZooJudge(self)


JudgeSettings.registry.register("judgezoo", JudgeZoo)


class JudgeZooJudge(Judge):
    """Harmful if the published judge's probability of harm reaches the threshold, else harmless. It sees no refusals.

    `template` is the digest of the judge's module in judgezoo, which contains its prompt and reads its reply.
    """

    name = "judgezoo"

    def __init__(self, settings: JudgeZoo) -> None:
        try:
            from judgezoo import Judge as Published
        except ImportError as error:
            raise DapaError(f"judge judgezoo: {error}; pip install 'dapa_exp[judgezoo]'") from error
        from dapa_exp.models.load import only_whole  # here, since to name a judge loads no model's library

        try:
            with only_whole(f"judge judgezoo: {settings.judge}"):
                self._judge: Any = Published.from_name(settings.judge)
        except (OSError, ValueError, RuntimeError) as error:
            raise DapaError(f"judge judgezoo: {settings.judge}: cannot be loaded: {error}") from error
        self._settings = settings
        self.version = f"{settings.version} (judgezoo {version('judgezoo')})"
        source = inspect.getsource(sys.modules[type(self._judge).__module__])
        self.template = hashlib.sha256(source.encode()).hexdigest()

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        return judged_where_language(prompts, answers, self._ask)

    def _ask(self, rows: list[tuple[str, str]]) -> list[Verdict]:
        found: list[Verdict] = []
        for batch in batches(rows, self._settings.batch_size):
            scores = self._judge.judge([_chat(*row) for row in batch])["p_harmful"]
            found += verdicts_of(scores, len(batch), self._settings.threshold)
        return found


def verdicts_of(scores: Sequence[float | None], count: int, threshold: float) -> list[Verdict]:
    """The verdict for each probability. None is a failed verdict. If a probability is missing, all verdicts failed."""
    if len(scores) != count:  # judgezoo drops replies that it cannot read, without saying which ones
        return [Verdict.FAILED] * count
    return [
        Verdict.FAILED if score is None else Verdict.HARMFUL if score >= threshold else Verdict.HARMLESS
        for score in scores
    ]


def _chat(prompt: str, completion: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": defused(prompt)},
        {"role": "assistant", "content": defused(completion)},
    ]
