"""Completions on disk the moment they exist, so that none is generated twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dapa_exp.engine.plain import Completion, Decided, PlainEngine
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import Completed


class CompletionStore:
    """One file of completions of a run, keyed by what the weights were and which prompt it is."""

    def __init__(self, run: RunFolder, *name: str) -> None:
        self._run = run
        self._file: Journal = run.journal(run.files.completions(*name), Completed)
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
        places: Iterable[int] | None = None,
    ) -> list[Completion]:
        """Completions by the weights now in the engine, which `weights` names: of the prompts at `places`, or of all.

        Whoever does not say when an answer is `decided` gets whole answers: one that is cut on disk is generated again.
        """
        wanted = list(range(len(prompts)) if places is None else places)

        def missing(place: int) -> bool:
            answer = self._kept.get((weights, prompts[place].id))
            return answer is None or (answer.cut and decided is None)

        for batch in engine.batches(len(prompts)):
            asked = {place - batch.start for place in wanted if place in batch and missing(place)}
            if asked:
                rows = [prompts[place] for place in batch]
                answers = engine.generate_rows(rows, asked, max_new_tokens, carried, decided)
                self._keep(weights, {rows[i].id: answer for i, answer in answers.items() if missing(batch[i])})
        return [self._kept[weights, prompts[place].id] for place in wanted]

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
