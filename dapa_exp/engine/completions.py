"""Stores completions on disk as soon as they are generated, so that none is generated twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from dapa_exp.engine.plain import Completion, PlainEngine, Request
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import CompletionLine

COMPLETIONS = TypeAdapter(list[Completion | None])


class CompletionStore:
    """One file of completions of a run. A completion is identified by a name of the weights and the prompt's id."""

    def __init__(self, run: RunFolder, *name: str) -> None:
        self._run = run
        self.file = run.files.completions(*name)
        self._lines: Journal = run.journal(self.file, CompletionLine)
        self._kept = {
            (line["weights"], line["prompt"]): Completion(line["completion"], line["tokens"], line.get("cut", False))
            for line in self._lines.lines
        }

    @property
    def is_empty(self) -> bool:
        """Whether there are no completions on disk yet."""
        return not self._kept

    def find(self, weights: str, request: Request) -> list[Completion] | None:
        """The wanted answers, if all are on disk."""
        wanted = [self._kept.get((weights, request.prompts[place].id)) for place in request.wanted]
        found = [answer for answer in wanted if answer and (not answer.cut or request.decided)]
        return found if len(found) == len(wanted) else None

    def add(self, weights: str, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        """Keep answers that another run has generated. Their tokens are not counted as this run's."""
        self._keep(weights, {prompt.id: answer for prompt, answer in zip(prompts, answers, strict=True)})

    def complete(self, engine: PlainEngine, weights: str, request: Request) -> list[Completion]:
        """The requested answers, in the order of their prompts. `weights` names the weights that are in the engine.

        An answer that is on disk is not generated again, unless it is cut there and the request wants whole answers.
        """

        def missing(place: int) -> bool:
            answer = self._kept.get((weights, request.prompts[place].id))
            return answer is None or (answer.cut and request.decided is None)

        for batch in engine.batches(len(request.prompts)):
            rows = frozenset(place - batch.start for place in request.wanted if place in batch and missing(place))
            if rows:
                prompts = request.prompts[batch.start : batch.stop]
                answers = engine.answers(replace(request, prompts=prompts, rows=rows))
                new = {prompts[i].id: answer for i, answer in answers.items() if missing(batch[i])}
                self._keep(weights, new)
                self._run.tokens += sum(answer.tokens for answer in new.values())
        return [self._kept[weights, request.prompts[place].id] for place in request.wanted]

    def _keep(self, weights: str, answers: Mapping[str, Completion]) -> None:
        self._lines.append(
            *(
                {"weights": weights, "prompt": prompt, "completion": answer.text, "tokens": answer.tokens}
                | ({"cut": True} if answer.cut else {})
                for prompt, answer in answers.items()
            )
        )
        self._kept |= {(weights, prompt): answer for prompt, answer in answers.items()}
