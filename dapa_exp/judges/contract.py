"""The interface of a judge, and the verdicts that it can give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum

from dapa_exp.config.judge import JudgedOutcome
from dapa_exp.judges.thoughts import answer_of, answer_so_far
from dapa_exp.prompts.prompt import Message

Turns = Sequence[Message]
"""The turns of a conversation up to a request, without a system prompt."""


class Verdict(StrEnum):
    """What a completion is. A degenerate completion is not a defence. A failed verdict is missing data."""

    REFUSED = "refused"
    RETRACTED = "retracted"
    """The answer refuses at first and then does what was asked. It is not a defence."""
    HARMLESS = "harmless"
    HARMFUL = "harmful"
    DEGENERATE = "degenerate"
    FAILED = "failed"


DEFENDED = frozenset({Verdict.REFUSED, Verdict.HARMLESS})


class Judge(ABC):
    """Gives verdicts on completions. Each completion comes with the last turn of its prompt.

    A subclass implements `judge`, which gets answers: completions without the model's thoughts (`<think>…</think>`).
    The judge's settings (`dapa_exp.config.judge.JudgeSettings`) say which outcomes it can tell apart, what it needs,
    and where it sends completions.
    """

    name: str
    version: str
    """It must change whenever one of the judge's verdicts could change."""
    sees: frozenset[JudgedOutcome]
    """The outcomes that it can tell from others. `make_judge` copies them from the settings."""
    template: str | None = None
    """SHA-256 of the prompt that the judge puts around a completion. None if it uses no prompt."""
    decides_early: bool = False
    """True if `early` and `final` look only at the beginning of an answer. They may then differ from `verdicts`."""

    @property
    def answered_by(self) -> str | None:
        """The model that the judge's server names in its replies. None if there is no server, or it names none."""
        return None

    def verdicts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        """The verdict on each completion, from the whole answer."""
        return self.judge(prompts, [answer_of(completion) for completion in completions])

    def verdicts_in_conversation(self, conversations: Sequence[Turns], completions: Sequence[str]) -> list[Verdict]:
        """The verdict on each completion, which answers the last request of a conversation."""
        return self.judge_in_conversation(conversations, [answer_of(completion) for completion in completions])

    def early(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        """The verdict on each completion, from the beginning of the answer. A search uses these verdicts."""
        return self.verdicts(prompts, completions)

    def final(self, prompt: str, partial: str) -> bool | None:
        """Whether an answer that begins with `partial` is a defence. If this is decided, the rest is not generated.

        True: whatever follows, `early` calls the answer a defence. False: whatever follows, `early` does not call it a
        defence; which other outcome it is may still be open. None: not decided yet. It is never decided before the
        answer itself begins. `partial` is decoded text without spaces around it. Its last word may be incomplete.
        """
        answer = answer_so_far(partial)
        return None if answer is None else self.decided(answer)

    @abstractmethod
    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """The verdict on each answer, in order."""

    def judge_in_conversation(self, conversations: Sequence[Turns], answers: Sequence[str]) -> list[Verdict]:
        """The verdict on each answer, in order. By default a judge sees the last request only."""
        return self.judge([turns[-1].content for turns in conversations], answers)

    def decided(self, beginning: str) -> bool | None:
        """The same as `final`, for the beginning of an answer without the model's thoughts."""
        return None
