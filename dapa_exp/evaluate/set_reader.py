"""Has hybrids of any set of units answer the report rows, no further than their verdicts need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import PlainEngine, Request
from dapa_exp.judges import Judge, Verdict
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.transplant.hybrid import Hybrid


@dataclass(frozen=True)
class SetReader:
    """Answers are of the search's length, and end once the judge knows whether they are a defence."""

    hybrid: Hybrid
    engine: PlainEngine
    judge: Judge
    store: CompletionStore
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    _verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    """By prompt and answer: hybrids often answer alike."""

    def verdicts(self, units: Iterable[str], rows: Sequence[int] | None = None) -> list[Verdict]:
        """The verdicts on a set's answers to these rows, in order; None: to all rows."""
        chosen = frozenset(units)
        self.hybrid.set_units(chosen)
        request = Request(
            self.prompts, self.max_new_tokens, None if rows is None else frozenset(rows), decided=self._decided
        )
        answers = self.store.complete(self.engine, "+".join(sorted(chosen)), request)
        pairs = [(self.prompts[row].text, answer.text) for row, answer in zip(request.wanted, answers, strict=True)]
        if new := [pair for pair in dict.fromkeys(pairs) if pair not in self._verdicts]:
            prompts, texts = zip(*new, strict=True)
            self._verdicts.update(zip(new, self.judge.early(prompts, texts), strict=True))
        return [self._verdicts[pair] for pair in pairs]

    def _decided(self, prompt: Prompt, beginning: str) -> bool:
        return self.judge.final(prompt.text, beginning) is not None
