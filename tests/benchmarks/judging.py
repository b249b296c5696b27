"""What a search gains by answering ahead while a judge on another machine is at work.

    python -m tests.benchmarks.judging [--pair NAME] [--delay SECONDS] [--repeat N] [OVERRIDE ...]

A judge that takes `delay` seconds for whatever it is given, as a server that has a place for every row would, and then
goes by the phrases; it never decides early. The same search with a judge that says it computes here, and so is waited
for, is what it is compared with; both in turn, medians of the wall time. The queries must be the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from dapa_exp.base.progress import silent
from dapa_exp.evaluate.defence import defence_rate
from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.judges.contract import Verdict
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.models.pair import open_pair
from dapa_exp.prompts.load import load_rows
from dapa_exp.record.folder import open_run
from dapa_exp.run import load_student
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.unit_search import search_units
from dapa_exp.transplant.hybrid import Hybrid
from tests.benchmarks.engine import composed, teacher_answers


class SlowJudge(PhraseJudge):
    """Sleeps, which leaves the processor to others, and knows nothing of an answer before its end."""

    def __init__(self, delay: float, remote: bool) -> None:
        self.remote = remote
        self.waited = 0.0
        self._delay = delay

    def verdicts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        time.sleep(self._delay)
        self.waited += self._delay
        return super().verdicts(prompts, completions)

    def final(self, prompt: str, partial: str) -> bool | None:
        return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pair", default="mini-mistral-style")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the judge takes each time it is asked")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    turns = [
        [search(arguments.pair, SlowJudge(arguments.delay, remote), arguments.overrides) for remote in (False, True)]
        for _ in range(arguments.repeat)
    ]
    waited, ahead = zip(*turns, strict=True)
    for name, runs in (("waited for", waited), ("answering ahead", ahead)):
        seconds, judging, queries = (median(values) for values in zip(*(run[:3] for run in runs), strict=True))
        print(f"{name}: {seconds:.2f} s, of which the judge {judging:.2f} s; {queries:.0f} queries")
    ratio = median(a[0] for a in waited) / median(b[0] for b in ahead)
    same = len({json.dumps(run[3]) for run in (*waited, *ahead)}) == 1
    print(f"ratio {ratio:.2f}; {'the same' if same else 'NOT the same'} queries and scores")


def search(pair: str, judge: SlowJudge, overrides: list[str]) -> tuple[float, float, int, list[object]]:
    """Seconds, those that the judge took, queries, and the trace of one search in a folder that is thrown away."""
    config = composed(pair, *overrides)
    with tempfile.TemporaryDirectory() as scratch, open_run(Path(scratch) / "run", config) as run:
        checkpoints, prompts = open_pair(config), load_rows(config.dataset.search)
        answers = teacher_answers(config)
        dsr = defence_rate(PhraseJudge().verdicts([prompt.text for prompt in prompts], answers)).value
        teacher = Teacher(None, answers, dsr, None)  # type: ignore[arg-type]  # a search needs no report on it
        engine = load_student(config, checkpoints)
        oracle = Oracle(run, Hybrid(engine.loaded.model, checkpoints), engine, judge, prompts)
        started = time.monotonic()
        found = search_units(run, checkpoints, teacher, oracle, silent)
        seconds = time.monotonic() - started
        lines = [json.loads(line) for line in (run.path / "search.jsonl").read_text().splitlines()]
        trace = [[line["units"], line["score"], line["verdicts"]] for line in lines]
        return seconds, judge.waited, found.ledger.queries, trace


if __name__ == "__main__":
    main()
