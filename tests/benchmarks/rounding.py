"""How often `fast` and `plain` differ in bfloat16 on a CPU, beside how often two batch sizes of `plain` do.

    python -m tests.benchmarks.rounding [--hybrids N] [--json FILE]
    python -m tests.benchmarks.rounding --smoke --json FILE      # few hybrids, in seconds
    python -m tests.benchmarks.rounding --pairs smollm2 --hybrids 10 --rows 48 --no-search --float32 \
      dataset=smollm2 granularity=layer search.max_new_tokens=16  # a real model, whose tokens nearly tie more often

In bfloat16 the last bits of a sum depend on the shapes of its tensors, and tokens often nearly tie. So answers change
with the batch size. That is the yardstick: `fast` must change no more verdicts. For a pair of each family, random sets
of units answer the search's prompts by `plain`, by `plain` in batches of half as many, and by `fast`, which has
answered with all earlier sets. Then each pair is searched with both engines. With `--float32` these sets also answer by
`plain` in float32: how far bfloat16 itself is from there, by `plain` and by `fast`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.judges import make_judge
from dapa_exp.models.load import load_model
from dapa_exp.models.pair import open_pair
from dapa_exp.prompts.load import load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.run import run
from dapa_exp.transplant.hybrid import Hybrid
from tests.benchmarks.targets import conclude, target

PAIRS = ("mini-llama-small-style", "mini-mistral-style", "mini-gemma-small-style")
WORDS = ("runtime.dtype=bfloat16", "runtime.threads=1")
APART = ("answers", "tokens", "verdicts")
"""What may differ from `plain`'s."""
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures and the targets where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hybrids", type=int, default=500, help="of each pair")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--no-search", action="store_true", help="do not search with each engine")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("overrides", nargs="*", help="of each run")
    arguments = parser.parse_intermixed_args(argv)
    hybrids, pairs = (3, PAIRS[:1]) if arguments.smoke else (arguments.hybrids, arguments.pairs.split(","))
    words = (*WORDS, *arguments.overrides)
    rows = [
        compare_engines([f"pair={pair}", *words], hybrids, arguments.rows, exact=arguments.float32) for pair in pairs
    ]
    if not arguments.no_search:
        with tempfile.TemporaryDirectory() as work:
            rows = [row | compare_searches([f"pair={row['pair']}", *words], Path(work)) for row in rows]
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key != "pair"}
    verdicts = total["answers"] / 100
    targets = [
        target("hybrids asked of each family", min(row["hybrids"] for row in rows), 500, "higher"),
        target(
            "% of verdicts that differ: fast from plain, at most as two batch sizes of plain",
            total["fast_verdicts"] / verdicts,
            total["batch_verdicts"] / verdicts,
        ),
    ]
    if "searches_differ" in total:
        targets.append(target("searches with another result", total["searches_differ"], 0))
    conclude(rows, targets, arguments.json)


def compare_engines(words: Sequence[str], hybrids: int, count: int, exact: bool = False) -> Row:
    """How many tokens and verdicts of a pair's hybrids differ between the engines, and between two batch sizes.

    With `exact`, also how many of either engine differ from those in float32.
    """
    (job,) = jobs(words)
    config, name = job.config, job.config.pair.name
    torch.set_num_threads(config.runtime.threads)
    pair = open_pair(config, silent)
    template = pair.teacher_folder if pair.chat_template == "teacher" else None
    loaded = load_model(pair.student_folder, config.runtime, template)
    hybrid = Hybrid(loaded.model, pair)
    prompts = load_prompts(config.dataset).search[:count]
    judge, length, draw = make_judge(config.judge), config.search.max_new_tokens, random.Random(name)
    plain, half = PlainEngine(loaded, count), PlainEngine(loaded, count // 2)
    fast = FastEngine(loaded, count, reuse_bytes=1 << 30)
    single = load_model(pair.student_folder, config.runtime.model_copy(update={"dtype": "float32"}), template)
    precise, float32 = Hybrid(single.model, pair), PlainEngine(single, count)
    kinds = ("fast", "batch", *(("float32", "fast_float32") if exact else ()))
    keys = ("answers", "tokens", *(f"{kind}_{what}" for kind in kinds for what in APART))
    row: Row = {"pair": name, "hybrids": hybrids, **dict.fromkeys(keys, 0)}
    for _ in range(hybrids):
        units = draw.sample(list(pair.units), draw.randint(1, len(pair.units)))
        hybrid.set_units(units)
        whole, halves, quick = (engine.generate_batch(prompts, length) for engine in (plain, half, fast))
        compared = [("fast", whole, quick), ("batch", whole, halves)]
        if exact:
            precise.set_units(units)
            right = float32.generate_batch(prompts, length)
            compared += [("float32", right, whole), ("fast_float32", right, quick)]
        row["answers"] += len(prompts)
        row["tokens"] += sum(answer.tokens for answer in whole)
        for kind, known, answers in compared:
            apart = list(map(tokens_apart, known, answers))
            row[f"{kind}_answers"] += sum(map(bool, apart))
            row[f"{kind}_tokens"] += sum(apart)
            row[f"{kind}_verdicts"] += verdicts_apart(judge, prompts, known, answers)
    print(row, flush=True)
    return row


def tokens_apart(one: Completion, other: Completion) -> int:
    """How many tokens of the longer answer are not the other's at the same place."""
    same = sum(a == b for a, b in zip(one.ids, other.ids, strict=False))
    return max(len(one.ids), len(other.ids)) - same


def verdicts_apart(
    judge: Any, prompts: Sequence[Prompt], one: Sequence[Completion], other: Sequence[Completion]
) -> int:
    """How many answers the judge takes for something else."""
    requests = [prompt.text for prompt in prompts]
    verdicts = [judge.early(requests, [answer.text for answer in answers]) for answers in (one, other)]
    return sum(a is not b for a, b in zip(*verdicts, strict=True))


def compare_searches(words: Sequence[str], work: Path) -> Row:
    """Whether a search finds the same with both engines, by the same queries."""
    found = []
    for engine in ("plain", "fast"):
        own = [f"runtime.engine={engine}", "evaluate.metrics=[]", f"record.dir={work / engine}"]
        (job,) = jobs([*words, *own])
        search = run(job.config, job.folder, silent).search
        found.append((search.status, search.units_found, search.ledger.queries))
    return {"searches": 1, "searches_differ": int(found[0][:2] != found[1][:2]), "queries_differ": found[0] != found[1]}


if __name__ == "__main__":
    main()
