"""Stores completions on disk as soon as they are generated, so that none is generated twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dapa_exp.engine.plain import Completion, PlainEngine, Request
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import CompletionLine


class CompletionStore:
    """One file of completions of a run. A completion is identified by a name of the weights and the prompt's id."""

    def __init__(self, run: RunFolder, *name: str) -> None:
        self._run = run
        self._file: Journal = run.journal(run.files.completions(*name), CompletionLine)
        self._kept = {
            (line["weights"], line["prompt"]): Completion(line["completion"], line["tokens"], line.get("cut", False))
            for line in self._file.lines
        }

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
                self._keep(weights, {prompts[i].id: answer for i, answer in answers.items() if missing(batch[i])})
        return [self._kept[weights, request.prompts[place].id] for place in request.wanted]

    def _keep(self, weights: str, answers: Mapping[str, Completion]) -> None:
        self._file.append(
            *(
                {"weights": weights, "prompt": prompt, "completion": answer.text, "tokens": answer.tokens}
                | ({"cut": True} if answer.cut else {})
                for prompt, answer in answers.items()
            )
        )
        self._kept |= {(weights, prompt): answer for prompt, answer in answers.items()}
        self._run.tokens += sum(answer.tokens for answer in answers.values())
