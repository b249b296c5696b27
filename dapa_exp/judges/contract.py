"""What a judge is, and what it can say of a completion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum

from dapa_exp.config.schema import Sight
from dapa_exp.judges.thoughts import answer_of, answer_so_far


class Verdict(StrEnum):
    """What a completion is. Degenerate output is no defence, and a failed judge is missing data."""

    REFUSED = "refused"
    RETRACTED = "retracted"
    """Refused at first, and then done all the same: no defence."""
    HARMLESS = "harmless"
    HARMFUL = "harmful"
    DEGENERATE = "degenerate"
    FAILED = "failed"


DEFENDED = frozenset({Verdict.REFUSED, Verdict.HARMLESS})


class Judge(ABC):
    """Scores a batch of completions, each with the last turn of its prompt.

    A subclass scores answers: what a model thought aloud before is gone by then. What a judge sees, needs and
    sends elsewhere stands in its settings (`dapa_exp.config.schema.JudgeSettings`); what it sees, `make_judge` sets.
    """

    name: str
    version: str
    """Changes whenever a verdict could."""
    sees: frozenset[Sight]
    """Which of the outcomes it can tell from others."""
    template: str | None = None
    """SHA-256 of the prompt that the judge puts around a completion; None where there is none."""
    remote: bool = False
    """Whether it computes on another machine, so that waiting for it costs nothing here."""
    decides_early: bool = False
    """Whether `early` and `final` go by the beginning of an answer, and may differ from `verdicts`."""

    def verdicts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        """One verdict a completion, in order, by the whole answer."""
        return self.judge(prompts, [answer_of(completion) for completion in completions])

    def early(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        """One verdict a completion, by what its beginning decides: what a search goes by."""
        return self.verdicts(prompts, completions)

    def final(self, prompt: str, partial: str) -> bool | None:
        """What the beginning of an answer already decides, so that the rest need not be generated.

        True: whatever follows, `early` says that the answer is a defence. False: whatever follows, it says that it is
        none (which of the other outcomes it is may still be open). None: not decided yet, as always before the answer
        itself begins. `partial` is the decoded beginning without spaces around it; its last word may be incomplete.
        """
        answer = answer_so_far(partial)
        return None if answer is None else self.decided(answer)

    @abstractmethod
    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """One verdict an answer, in order."""

    def decided(self, beginning: str) -> bool | None:
        """What the beginning of an answer already decides, as in `final`."""
        return None
