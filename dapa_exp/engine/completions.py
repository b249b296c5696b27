"""Completions on disk the moment they exist, batch by batch, so that none is generated twice."""

from __future__ import annotations

from collections.abc import Sequence

from dapa_exp.engine.plain import Completion, Decided, PlainEngine
from dapa_exp.evaluate.prompts import Prompt
from dapa_exp.record.folder import JsonLines, RunFolder


class CompletionStore:
    """One file of completions of a run, keyed by what the weights were and which prompt it is."""

    def __init__(self, run: RunFolder, name: str) -> None:
        self._run = run
        self._file: JsonLines = run.lines(f"generations/{name}.jsonl")
        self._kept = {
            (line["weights"], line["prompt"]): Completion(line["completion"], line["tokens"], line.get("cut", False))
            for line in self._file.lines
        }

    def complete(
        self,
        engine: PlainEngine,
        weights: str,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        carried: frozenset[str] | None = None,
        decided: Decided | None = None,
    ) -> list[Completion]:
        """Completions of all prompts by the weights now in the engine, which `weights` names.

        A batch is taken from the disk only as a whole: its composition is part of its result. Whoever does not say
        when an answer is `decided` gets whole answers: where one on disk was cut, its batch is generated again.
        """
        found: list[Completion] = []
        for batch in engine.batches(len(prompts)):
            rows = [prompts[i] for i in batch]
            kept = [self._kept.get((weights, row.id)) for row in rows]
            answers = [answer for answer in kept if answer is not None and not (answer.cut and decided is None)]
            if len(answers) < len(rows):
                answers = engine.generate_batch(rows, max_new_tokens, carried, decided)
                self._keep(weights, rows, answers)
            found += answers
        return found

    def _keep(self, weights: str, rows: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        self._file.append(
            *(
                {"weights": weights, "prompt": row.id, "completion": answer.text, "tokens": answer.tokens}
                | ({"cut": True} if answer.cut else {})
                for row, answer in zip(rows, answers, strict=True)
            )
        )
        self._kept |= {(weights, row.id): answer for row, answer in zip(rows, answers, strict=True)}
        self._run.tokens += sum(answer.tokens for answer in answers)
