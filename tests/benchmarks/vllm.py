"""Whether vLLM gives the verdicts of the reference engine, in float32, hybrid by hybrid.

    python -m tests.benchmarks.vllm [--hybrids N] [--rows N] [--json FILE]      # where vLLM is installed

For a pair of each family, enlarged to heads of 64, which vLLM takes on a CPU: random sets of units of each kind answer
search rows by both engines, at the search's length. After all of them the student is asked again: it must give its
first answers, with the same log-probabilities to the last bit.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.engine.plain import PlainEngine, prompt_tokens
from dapa_exp.engine.vllm import VllmEngine
from dapa_exp.judges import make_judge
from dapa_exp.models.architecture import Part, Units, units
from dapa_exp.models.load import load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.prompts.load import load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.zoo.build import build
from tests.benchmarks.targets import conclude, target

PAIRS = {
    "mini-llama-small-style": ("llama-small-chat", "llama-small-style"),
    "mini-mistral-style": ("mistral-chat", "mistral-style"),
    "mini-gemma-small-style": ("gemma-small-chat", "gemma-small-style"),
}
"""Teacher and student of each pair."""
SHAPE = "head_dim=64"
KINDS = ("mlp", "gate_proj", "up_proj", "attention", "q_proj", "layer")
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hybrids", type=int, default=12, help="of each kind and pair")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    rows = [row for pair in PAIRS for row in measure(pair, arguments.hybrids, arguments.rows)]
    alone = [row for row in rows if row["kind"] == "student again"]
    asked = [row for row in rows if row["kind"] != "student again"]
    totals = {key: sum(row[key] for row in asked) for key in ("hybrids", "answers", "texts", "verdicts")}
    targets = [
        target("hybrids asked", totals["hybrids"], 200, "higher"),
        target("verdicts that differ", totals["verdicts"], 0),
        target("answers that differ", totals["texts"], 0),
        target("log-probabilities of the student that are not what they were", sum(row["moved"] for row in alone), 0),
    ]
    conclude(rows, targets, arguments.json)


def measure(name: str, hybrids: int, rows: int) -> Iterator[Row]:
    """The tally of each kind of units, and of the student afterwards."""
    teacher, student = (f"{model}@{SHAPE}" for model in PAIRS[name])
    build([teacher, student], silent)
    ids = (f'family.teacher.id="zoo:{teacher}"', f'pair.student.id="zoo:{student}"')
    (job,) = jobs([f"pair={name}", *ids, "runtime.engine=vllm"])
    config = job.config
    torch.set_num_threads(config.runtime.threads)
    pair = open_pair(config, silent)
    loaded = load_model(pair.student_folder, config.runtime)
    plain, vllm = PlainEngine(loaded, rows), VllmEngine(loaded, config.runtime)
    prompts = load_prompts(config.dataset).search[:rows]
    length, judge = config.search.max_new_tokens, make_judge(config.judge)
    before = log_probabilities(vllm, prompts, length)
    for kind in KINDS:
        found = replace(pair, units=units_of(kind, pair))
        hybrid, draw = Hybrid(loaded.model, found), random.Random(kind)
        tally: Row = {"pair": name, "kind": kind, "hybrids": hybrids, "answers": 0, "texts": 0, "verdicts": 0}
        different = set()
        for _ in range(hybrids):
            hybrid.set_units(draw.sample(list(found.units), draw.randint(1, len(found.units))))
            ours, theirs = (
                [answer.text for answer in engine.generate_batch(prompts, length)] for engine in (plain, vllm)
            )
            verdicts = [judge.early([prompt.text for prompt in prompts], texts) for texts in (ours, theirs)]
            tally["answers"] += len(prompts)
            tally["texts"] += sum(a != b for a, b in zip(ours, theirs, strict=True))
            tally["verdicts"] += sum(a is not b for a, b in zip(*verdicts, strict=True))
            different.add(tuple(ours))
        hybrid.set_units(())
        yield tally | {"different": len(different)}
        print(tally | {"different": len(different)}, flush=True)
    after = log_probabilities(vllm, prompts, length)
    moved = sum(a != b for a, b in zip(before, after, strict=True)) if len(before) == len(after) else len(before)
    yield {"pair": name, "kind": "student again", "log_probabilities": len(before), "moved": moved}


def units_of(kind: str, pair: Pair) -> Units:
    """The units of a kind; of `q_proj`, which is no unit of the tool's, each layer's own."""
    if kind != "q_proj":
        return units(pair.model_type, pair.num_layers, (kind,), pair.student)
    return {name.removesuffix(".weight"): (Part(name),) for name in pair.student if name.endswith("q_proj.weight")}


def log_probabilities(engine: VllmEngine, prompts: Sequence[Prompt], length: int) -> list[float]:
    """Of every token of the answers."""
    return [
        of[token].logprob
        for said in engine._ask(prompt_tokens(engine.loaded, prompts), length)
        for of, token in zip(said.logprobs or (), said.token_ids, strict=True)
    ]


if __name__ == "__main__":
    main()
