"""Estimates against what really happens: searches on planted oracles, and a run's own files and memory."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from huggingface_hub import constants

from dapa_exp.config.models import Model
from dapa_exp.config.registries import ALGORITHMS, ModelSizes
from dapa_exp.config.schema import Config
from dapa_exp.preflight.estimate import Queries, RunNeeds, files, memory, needs, queries, shared
from dapa_exp.preflight.facts import facts, shape_of
from dapa_exp.preflight.totals import cells, download, shortages, totals
from dapa_exp.search import Outcome, Reduction, Settings, search
from tests.benchmarks.planted import KINDS, REDUCTIONS, layers
from tests.settings import quick_config

ON_A_GPU = {"dtype": "bfloat16", "device": "cuda", "engine": "plain", "batch_size": 1}
NONE = 1
"""A run asks what the student is by itself; a search alone does not."""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@cache
def base() -> Config:
    return quick_config()


def config_of(**groups: dict[str, Any]) -> Config:
    """A quick run's config with some values changed, group by group."""
    return base().model_copy(
        update={group: getattr(base(), group).model_copy(update=values) for group, values in groups.items()}
    )


def asked(config: Config, units: int) -> Queries:
    found = queries(config, units)
    assert found is not None
    return found


@pytest.mark.parametrize("algorithm", [name for name in REDUCTIONS if name not in ("exhaustive", "greedy")])
@pytest.mark.parametrize("n", [18, 32])
def test_the_estimated_queries_are_near_the_mean_of_fresh_oracles(algorithm: str, n: int) -> None:
    oracles = [plant(layers(n), seed) for plant in KINDS.values() for seed in range(50_000, 50_006)]
    found = fmean(NONE + len(search(algorithm, oracle.units, oracle.test).queries) for oracle in oracles)
    estimated = asked(config_of(search={"algorithm": algorithm}), n)
    assert estimated.how == "about"
    assert estimated.count == pytest.approx(found, rel=0.3)


@pytest.mark.parametrize(("algorithm", "settings"), [("all", {}), ("none", {}), ("random", {"k": 2, "repeats": 4})])
def test_the_queries_of_a_control_are_exact(algorithm: str, settings: dict[str, int]) -> None:
    units = layers(6)
    sets = {frozenset(), frozenset(units)}
    result = search(
        algorithm, units, lambda chosen, label: Outcome(bool(chosen), 0.5), settings=Settings(k=2, repeats=4, seed=0)
    )
    sets |= {frozenset(query.units) for query in result.queries}
    estimated = asked(config_of(search={"algorithm": algorithm, **settings}), len(units))
    assert (estimated.count, estimated.how) == (len(sets), "exactly")


@pytest.mark.parametrize("n", [4, 14])
def test_an_exhaustive_search_never_asks_more(n: int) -> None:
    units = layers(n)
    needed = frozenset(units[:-1])
    result = search("exhaustive", units, lambda chosen, label: Outcome(needed <= chosen, float(needed <= chosen)))
    estimated = asked(config_of(search={"algorithm": "exhaustive"}), n)
    assert len(result.queries) <= estimated.count <= 1.1 * len(result.queries) + 2
    assert str(estimated).startswith("≤ ")


def test_a_budget_bounds_the_estimate() -> None:
    estimated = asked(config_of(search={"algorithm": "ddmin", "max_queries": 7}), 40)
    assert (estimated.count, estimated.how) == (8, "at most")


def test_an_algorithm_that_nobody_has_measured_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = ALGORITHMS.get("ddmin")
    assert isinstance(measured, Reduction)
    unmeasured = replace(measured, cost=None)
    monkeypatch.setitem(ALGORITHMS._things, "ddmin", unmeasured)
    config = config_of(
        search={"algorithm": "ddmin"}, pair={"student": Model(id="meta-llama/Llama-2-7b-hf", revision=None)}
    )
    assert queries(config, 40) is None
    need = needs(config, lambda _: facts()["meta-llama/Llama-2-7b-hf"])
    assert cells(config, need, shape_of)[1] == "unknown"
    assert "search=ddmin" in totals([config], [need], shape_of).unknown
    budget = config_of(search={"algorithm": "ddmin", "max_queries": 7})
    assert str(queries(budget, 40)) == "≤ 8"


def test_memory_is_weights_and_what_the_batch_adds() -> None:
    far = {"search": base().dataset.search.model_copy(update={"source": "walledai/AdvBench"})}
    config = config_of(runtime=ON_A_GPU, dataset=far)
    shape = facts()["meta-llama/Llama-2-7b-hf"]
    weights = 2 * shape.parameters
    assert weights < memory(config, shape) < 1.1 * weights
    more = memory(config_of(runtime={**ON_A_GPU, "batch_size": 33}, dataset=far), shape)
    a_token = 32 * 2 * 4096 * 2
    answers = 32 * (128 + max(config.search.max_new_tokens, config.evaluate.max_new_tokens)) * a_token
    assert answers < more - memory(config, shape) < 2 * answers
    fast = config_of(runtime={**ON_A_GPU, "engine": "fast", "reuse_memory": 3.0}, dataset=far)
    assert memory(fast, shape) - memory(config, shape) == 3 * 10**9
    roomy = config_of(runtime={**ON_A_GPU, "engine": "fast", "reuse_memory": 300.0}, dataset=far)
    assert memory(roomy, shape) - memory(config, shape) < 60 * 10**9, "more than all queries could leave"
    grouped = memory(config, replace(shape, num_key_value_heads=8))
    assert grouped < memory(config, shape)


def test_perplexity_of_a_large_vocabulary_costs_more_than_answers() -> None:
    shape = facts()["google/gemma-2b"]
    perplexity = {"metrics": ["perplexity"]}
    without = memory(config_of(runtime=ON_A_GPU), shape)
    scored = memory(config_of(runtime=ON_A_GPU, evaluate=perplexity, dataset={"text_joined": True}), shape)
    assert scored - without > 0.9 * 2048 * 256_000 * (2 + 4 + 4)
    short_texts = config_of(runtime=ON_A_GPU, evaluate=perplexity)
    assert memory(short_texts, shape) - without < 0.02 * (scored - without), "no window is longer than a text"


def test_prompts_that_are_here_are_as_long_as_they_are() -> None:
    """Longest request of the miniatures: 16 tokens with its template."""
    shape = facts()["meta-llama/Llama-2-7b-hf"]
    one, two = (memory(config_of(runtime={**ON_A_GPU, "batch_size": size}), shape) for size in (1, 2))
    a_token = 32 * 2 * 4096 * 2 + 3 * 11008 * 2
    answer = max(base().search.max_new_tokens, base().evaluate.max_new_tokens)
    assert 16 <= (two - one - answer * 32 * 2 * 4096 * 2 - 32_000 * 6) / a_token < 24
    system = config_of(runtime={**ON_A_GPU, "batch_size": 1}, dataset={"system_prompt": "Be helpful. " * 100})
    assert memory(system, shape) - one > 250 * a_token


def test_memory_of_an_enlarged_run_is_what_was_measured() -> None:
    """`dapa run pair=enlarged-tinyllama-1.1b` in bfloat16, with 16 search rows in one batch, peaked at 3.16 GB."""
    sampled = {"search": base().dataset.search.model_copy(update={"rows": (0, 64), "sample": 16})}
    shape = shape_of(Model(id="zoo:llama-small-style@tinyllama-1.1b", revision=None))
    assert shape is not None
    runtime = {"dtype": "bfloat16", "device": "cpu", "engine": "fast", "batch_size": 16}
    config = config_of(search={"algorithm": "auto"}, runtime=runtime, dataset=sampled)
    assert memory(config, shape) == pytest.approx(3.16e9, rel=0.15)


def test_vllm_holds_the_weights_again_and_its_cache() -> None:
    shape = shape_of(Model(id="zoo:llama-small-style@tinyllama-1.1b", revision=None))
    assert shape is not None
    runtime = {"dtype": "bfloat16", "device": "cpu", "engine": "vllm", "cache_memory": 3.0, "batch_size": 10_000}
    whole, shared = (memory(config_of(runtime={**runtime, "tensor_parallel": n}), shape) for n in (1, 2))
    assert 2 * 2.2e9 + 3e9 < whole < 2 * 2.2e9 + 3e9 + 1.5e9
    assert whole - shared == pytest.approx(1.1e9, rel=0.01)


def test_a_miniature_yet_to_be_enlarged_is_known_by_its_shape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path))
    config = quick_config("pair=enlarged-gemma-2b", f"record.dir={tmp_path}")
    student = shape_of(config.pair.student)
    assert student is not None
    assert (student.num_hidden_layers, student.num_key_value_heads, student.dtype) == (18, 2, "bfloat16")
    need = needs(config, shape_of)
    (disk,) = (disk for disk in totals([config], [need], shape_of).disks if disk.what == "models to enlarge")
    assert disk.needed == 2 * student.checkpoint_bytes
    assert cells(config, need, shape_of)[3] == "10.1 GB"
    assert shape_of(Model(id="zoo:llama-small-chat@hidden_size=128", revision=None)) is None


SIZES = ModelSizes(
    vocab_size=32_000, context=4096, cache_bytes=0, state_bytes=22 * 2048 * 4, dtype_bytes=2, text_tokens=None
)


def test_files_grow_with_rows_and_answers() -> None:
    short = files(config_of(), SIZES, 10)
    longer = files(config_of(evaluate={"max_new_tokens": 512}), SIZES, 10)
    compared = {"metrics": ["divergence"]}
    alone = files(config_of(evaluate=compared, record={"share": False}), SIZES, 10)
    assert short < longer
    assert alone - short == (16 + 8) * 9 * 32_000 * 4
    by_layer = files(config_of(evaluate={"metrics": ["change_by_layer"]}, record={"share": False}), SIZES, 10)
    assert by_layer - short == (16 + 8) * 22 * 2048 * 4


def test_what_runs_share_is_told_once_for_all() -> None:
    without, compared = (shared(config_of(evaluate={"metrics": of}), SIZES) for of in ([], ["divergence"]))
    assert compared - without == (16 + 8) * 9 * 32_000 * 4
    assert not shared(config_of(record={"share": False}), SIZES)
    configs = [config_of(granularity={"name": name}, search={"threshold": at}) for name, at in (("a", 0.5), ("b", 0.6))]
    needed = [needs(config, shape_of) for config in configs]
    one, both = (totals(configs[:n], needed[:n], shape_of).disks[1].needed for n in (1, 2))
    assert needed[1].files == both - one
    assert one - (needed[0].files or 0) == needed[0].shared > 0


def test_a_shared_teacher_is_downloaded_once() -> None:
    configs = [quick_config(f"pair={pair}") for pair in ("llama2-7b-hf", "llama2-7b-vicuna-v1.5")]
    known = facts()["meta-llama/Llama-2-7b-hf"].checkpoint_bytes
    found = totals(configs, [], shape_of)
    assert found.disks[0].needed == 3 * known
    assert download(configs[0].family.teacher, None) is None


def test_what_the_hubs_cache_holds_of_a_model_is_not_downloaded(tmp_path: Path) -> None:
    model = quick_config("pair=llama2-7b-hf").pair.student
    blob = tmp_path / "hub" / "models--meta-llama--Llama-2-7b-hf" / "blobs" / "0"
    blob.parent.mkdir(parents=True)
    blob.touch()
    shape = facts()[model.id]
    for held, left in ((10**9, shape.checkpoint_bytes - 10**9), (2 * shape.checkpoint_bytes, 0)):
        os.truncate(blob, held)  # a hole, which takes no room
        assert download(model, shape) == left


def test_memory_is_that_of_the_largest_runs_that_are_under_way_at_a_time() -> None:
    runs = [RunNeeds(units=1, queries=None, memory=size, files=0, shared=0, assumed=False) for size in (1, 3, 2)]
    found = totals([config_of(runtime={"processes": 2, "device": "cpu"})], runs, shape_of)
    assert (found.memory, found.processes) == (5, 2)
    (problem,) = shortages(replace(found, memory=10**16))
    assert problem.startswith("memory: about 10000000.0 GB are needed, and ")
    on_a_gpu = totals([config_of(runtime=ON_A_GPU)], runs, shape_of)
    assert shortages(replace(on_a_gpu, memory=10**16)) == []


def test_too_little_disk_is_named_with_its_folder() -> None:
    found = totals([quick_config("pair=llama2-7b-hf")], [], shape_of)
    downloads, runs = found.disks
    full = replace(found, disks=(replace(downloads, free=10**9), replace(runs, device=-1)))
    (problem,) = shortages(full)
    assert problem == f"disk: about 27.0 GB are needed in {downloads.folder}, and 1.0 GB are free"
    assert shortages(replace(full, disks=(replace(downloads, free=10**12), replace(runs, device=-1)))) == []
