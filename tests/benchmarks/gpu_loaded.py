"""The stages of the GPU benchmark that need the student in memory and nothing of a run."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from dapa_exp.config.schema import Config
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.judges import DEFENDED, make_judge
from dapa_exp.models.architecture import layer_of
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.prompts.load import load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import Record
from dapa_exp.transplant.hybrid import Hybrid
from tests.benchmarks.gpu_meter import GB, Bench, Row


def measure_loaded(
    bench: Bench,
    config: Config,
    live: Sequence[int],
    found: Mapping[str, Record],
    known: Sequence[str] | None,
    staged: Callable[[str, Callable[[], Row]], Row | None],
) -> None:
    """The stages that need the student in memory and nothing of a run."""
    pair = open_pair(config)
    torch.set_num_threads(config.runtime.threads)
    staged("load", lambda: load_at_once(bench, pair.student_folder))
    bench.free()
    started = time.monotonic()
    loaded = load_model(pair.student_folder, config.runtime)
    bench.synchronize()
    bench.result["rows"].append(
        {"pair": config.pair.name, "stage": "load_model", "seconds": round(time.monotonic() - started, 3)}
    )
    hybrid = Hybrid(loaded.model, pair)
    in_live = [unit for unit in pair.units if layer_of(unit) == live[0]]
    chosen = next((record.search.units_found for record in found.values()), known or in_live)
    staged("compare", lambda: compare(bench, config, pair, loaded, hybrid, chosen, live))
    staged("report", lambda: report_length(bench, config, loaded, hybrid, chosen))
    staged("ends", lambda: own_ends(bench, config, loaded, hybrid, chosen))


def load_at_once(bench: Bench, folder: Path) -> Row:
    """Read a model to the device at once, for comparison with `load_model`, which reads it to the CPU first."""
    dtype = getattr(torch, bench.settings.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": bench.settings.device})
    return {"parameters": model.num_parameters()}


def compare(
    bench: Bench,
    config: Config,
    pair: Pair,
    loaded: LoadedModel,
    hybrid: Hybrid,
    found: Sequence[str],
    live: Sequence[int],
) -> Row:
    """Verdicts and answers of many hybrids, by `plain`, by `plain` in other batches, and by `fast`."""
    settings, judge = bench.settings, make_judge(config.judge)
    prompts, length = load_prompts(config.dataset).search, config.search.max_new_tokens
    engines: dict[str, PlainEngine] = {
        "plain": PlainEngine(loaded, settings.batch),
        "plain_small_batch": PlainEngine(loaded, settings.small_batch),
        "fast": FastEngine(loaded, settings.batch, reuse_bytes=int(config.runtime.reuse_memory * GB)),
    }
    texts: dict[str, list[str]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    started, moved = time.monotonic(), 0.0
    for done, units in enumerate(hybrids(list(pair.units), found, live, settings.hybrids)):
        if done > 2 and time.monotonic() - started > settings.compare_seconds:
            break
        for name, engine in engines.items():
            at = time.monotonic()
            if name == "plain":
                hybrid.set_units(units)
                bench.synchronize()
                moved += time.monotonic() - at
            with bench.metered(f"compare {name}") as meter:
                answers = whole_answers(engine, prompts, length)
            seconds[name] = meter.seconds
            texts[name] += [answer.text for answer in answers]
            tokens[name] += sum(answer.tokens for answer in answers)
    asked = [prompt.text for prompt in prompts]
    count = len(texts["plain"]) // len(prompts)
    verdicts = {name: [v in DEFENDED for v in judge.verdicts(asked * count, said)] for name, said in texts.items()}
    row: Row = {"hybrids": count, "rows": count * len(prompts), "carry_seconds": moved}
    for name in engines:
        row[f"{name}_seconds"] = seconds[name]
        row[f"{name}_tokens_a_second"] = tokens[name] / seconds[name]
        row[f"{name}_roofline"] = bench.meters[f"compare {name}"].floor_seconds / seconds[name]
        if name != "plain":
            row[f"{name}_verdicts_differ"] = _differing(verdicts["plain"], verdicts[name])
            row[f"{name}_answers_differ"] = _differing(texts["plain"], texts[name])
    moved_gb = sum(pair.student.tensors[part.tensor].bytes for parts in pair.units.values() for part in parts) / GB
    hybrid.set_units(())
    started = time.monotonic()
    hybrid.set_units(pair.units)
    bench.synchronize()
    row |= {"carry_all_seconds": time.monotonic() - started, "carry_all_gb": moved_gb}
    hybrid.set_units(())
    return row


def hybrids(units: list[str], found: Sequence[str], live: Sequence[int], count: int) -> Iterator[list[str]]:
    """Nothing, everything, what was found, and draws among the layers that can matter."""
    yield []
    yield units
    yield list(found)
    rng = random.Random(0)
    matter = [unit for unit in units if layer_of(unit) in live]
    for _ in range(count - 3):
        yield rng.sample(matter, rng.randint(1, len(matter) - 1))


def whole_answers(engine: PlainEngine, prompts: Sequence[Prompt], length: int) -> list[Any]:
    """What an engine has a hybrid answer, in its batches."""
    batches = [[prompts[i] for i in batch] for batch in engine.batches(len(prompts))]
    return [answer for batch in batches for answer in engine.generate_batch(batch, length)]


def _differing(ours: Sequence[object], theirs: Sequence[object]) -> float:
    return sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(ours)


def report_length(bench: Bench, config: Config, loaded: LoadedModel, hybrid: Hybrid, found: Sequence[str]) -> Row:
    """Tokens a second where every row is decoded to the last token, by engine and batch size."""
    sets, length = load_prompts(config.dataset), bench.settings.report_tokens
    prompts = [*sets.report, *sets.harmless]
    row: Row = {"tokens": length}
    for size in bench.settings.report_batches:
        rows = prompts[:size]
        hybrid.set_units(())
        plain = PlainEngine(loaded, len(rows))
        usual, graphs = (FastEngine(loaded, len(rows), reuse_bytes=0, graphs=used) for used in (False, True))
        bench.free()
        said: dict[str, list[Any]] = {}
        works: list[tuple[str, PlainEngine, Sequence[str]]] = [
            # The first to come takes from the device what the others find there, which is slow while answers grow.
            ("plain_first", plain, ()),
            ("plain", plain, ()),
            ("fast", usual, ()),
            ("graphs", graphs, ()),
            # As a run's report has it: without graphs, the student's answers are drafts of the hybrid's.
            ("fast_with_drafts", usual, found),
            ("graphs_of_hybrid", graphs, found),
        ]
        for name, engine, units in works:
            hybrid.set_units(units)
            with bench.metered(f"report {name} {size}") as meter, endless(engine):
                said[name] = engine.generate_batch(rows, length)
            made = sum(answer.tokens for answer in said[name])
            assert made == len(rows) * length, f"{name}: some of {len(rows)} answers ended before {length} tokens"
            key = f"{name}_{len(rows)}"
            row[f"{key}_tokens_a_second"] = made / meter.seconds
            row[f"{key}_peak_gb"] = meter.device_gb
            row[f"{key}_device_allocations"] = meter.allocations
            print(f"report: {key}: {made / meter.seconds:.0f} tokens/s", flush=True)
        for name in ("fast", "graphs"):
            row[f"{name}_{size}_rows_differ"] = _differing(
                [answer.ids for answer in said["plain"]], [answer.ids for answer in said[name]]
            )
            row[f"{name}_{size}_tokens_agree"] = _agreeing(said["plain"], said[name])
    hybrid.set_units(())
    return row


def own_ends(bench: Bench, config: Config, loaded: LoadedModel, hybrid: Hybrid, found: Sequence[str]) -> Row:
    """Seconds for the answers of student and hybrid that end by themselves, by engine, in the main job's batches."""
    sets, length, size = load_prompts(config.dataset), bench.settings.report_tokens, bench.settings.batch
    prompts = [*sets.report, *sets.harmless]
    engines = {
        "plain": PlainEngine(loaded, size),
        "plain_small_batch": PlainEngine(loaded, bench.settings.small_batch),
        "fast": FastEngine(loaded, size, reuse_bytes=0),
        "graphs": FastEngine(loaded, size, reuse_bytes=0, graphs=True),
    }
    whole_answers(engines["plain"], prompts[:size], 8)  # the first to come waits for the device's memory
    row: Row = {"rows": len(prompts), "limit": length}
    for model, units in (("student", ()), ("hybrid", found)):
        hybrid.set_units(units)
        said: dict[str, list[Any]] = {}
        for name, engine in engines.items():
            bench.free()
            with bench.metered(f"ends {model} {name}") as meter:
                said[name] = whole_answers(engine, prompts, length)
            row[f"{model}_{name}_seconds"] = meter.seconds
            row[f"{model}_{name}_tokens_a_second"] = sum(answer.tokens for answer in said[name]) / meter.seconds
            print(f"ends: {model}: {name}: {meter.seconds:.1f} s", flush=True)
        lengths = sorted(answer.tokens for answer in said["plain"])
        row[f"{model}_mean_tokens"] = sum(lengths) / len(lengths)
        row[f"{model}_rows_at_limit"] = sum(tokens == length for tokens in lengths)
        judge, asked = make_judge(config.judge), [prompt.text for prompt in prompts]
        verdicts = {
            name: [verdict in DEFENDED for verdict in judge.verdicts(asked, [answer.text for answer in answers])]
            for name, answers in said.items()
        }
        for name in list(said)[1:]:
            pairs = zip(said["plain"], said[name], strict=True)
            row[f"{model}_{name}_rows_differ"] = sum(a.ids != b.ids for a, b in pairs) / len(prompts)
            row[f"{model}_{name}_verdicts_differ"] = _differing(verdicts["plain"], verdicts[name])
    hybrid.set_units(())
    return row


def _agreeing(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The share of tokens before the first that differs."""
    same = sum(
        next((i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=True)) if a != b), len(one.ids))
        for one, other in zip(ours, theirs, strict=True)
    )
    return same / sum(len(one.ids) for one in ours)


def endless(engine: PlainEngine) -> AbstractContextManager[None]:
    """While this lasts, no answer of the engine ends by itself."""
    return ending_at(engine, frozenset())


@contextmanager
def ending_at(engine: PlainEngine, tokens: frozenset[int]) -> Iterator[None]:
    """While this lasts, these tokens alone end an answer of the engine."""
    own: Any = engine.loaded.model.generation_config
    ends, of_model = engine.ends, own.eos_token_id
    engine.ends, own.eos_token_id = tokens, None  # transformers fills what a call leaves open from the model's
    try:
        yield
    finally:
        engine.ends, own.eos_token_id = ends, of_model
