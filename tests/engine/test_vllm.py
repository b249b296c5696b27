"""vLLM says of every hybrid what the reference engine says.

vLLM wants an environment of its own (docs/engines.md#vllm). Elsewhere these tests are skipped.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Runtime
from dapa_exp.engine.plain import Completion, PlainEngine, Request, prompt_tokens
from dapa_exp.engine.vllm import VllmEngine, Weights
from tests.engine.siblings import PROMPTS, Siblings, siblings
from tests.settings import quick_config
from tests.tiny import EVERY_CONFIG

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")

LENGTH = 10
SHAPE = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32}
"""32 is the smallest head size that vLLM takes on a CPU, which also pads experts to multiples of 32."""
MORE = {"qwen3_moe": {"moe_intermediate_size": 32}}

BY_TRANSFORMERS = ["olmo2"]
"""What vLLM has no code of its own for."""

EXPERTS = {"mixtral", "qwen3_moe"}
"""Mixtures of experts, whose weights vLLM 0.32 does not take over on a CPU."""


def runtime(**changed: object) -> Runtime:
    return quick_config("pair=mini-llama-small-base").runtime.model_copy(
        update={"engine": "vllm", "cache_memory": 0.1, **changed}
    )


def pair(folder: Path, family: str = "llama", *modules: str) -> Siblings:
    tiny = siblings(folder, family, modules or ("mlp", "attention"), **SHAPE, **MORE.get(family, {}))
    tiny.loaded.model.name_or_path = str(folder / "student")
    return tiny


@pytest.fixture
def engine(tmp_path: Path) -> tuple[Siblings, VllmEngine]:
    tiny = pair(tmp_path)
    return tiny, VllmEngine(tiny.loaded, runtime())


def plain(tiny: Siblings) -> list[Completion]:
    return PlainEngine(tiny.loaded, len(PROMPTS)).generate_batch(PROMPTS, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in EVERY_CONFIG if name not in {*BY_TRANSFORMERS, *EXPERTS}])
def test_every_hybrid_of_every_architecture_says_the_same(tmp_path: Path, family: str) -> None:
    tiny = pair(tmp_path, family)
    engine = VllmEngine(tiny.loaded, runtime())
    said = set()
    for units in tiny.candidates(6):
        tiny.hybrid.set_units(units)
        answers = engine.generate_batch(PROMPTS, LENGTH)
        said |= {answer.text for answer in answers}
        assert answers == plain(tiny)
    assert len(said) > 2 * len(PROMPTS)  # or there would be nothing to confuse


@pytest.mark.slow
@pytest.mark.parametrize("family", BY_TRANSFORMERS)
def test_transformers_code_within_vllm_is_refused(tmp_path: Path, family: str) -> None:
    tiny = pair(tmp_path, family)
    with pytest.raises(DapaError, match=f"vLLM has no code of its own for {family}"):
        VllmEngine(tiny.loaded, runtime()).generate_batch(PROMPTS, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(EXPERTS))
def test_weights_that_vllm_does_not_take_over_are_an_error(tmp_path: Path, family: str) -> None:
    tiny = pair(tmp_path, family)
    engine = VllmEngine(tiny.loaded, runtime())
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)
    tiny.hybrid.set_units(tiny.hybrid.pair.units)
    with pytest.raises(DapaError, match="vLLM did not take the weights over"):
        engine.generate_batch(PROMPTS, LENGTH)


@pytest.mark.slow
def test_two_engines_in_one_process_take_turns(tmp_path: Path) -> None:
    pairs = [pair(tmp_path / name) for name in ("a", "b")]
    engines = [VllmEngine(tiny.loaded, runtime()) for tiny in pairs]
    for tiny in pairs:
        tiny.hybrid.set_units(tiny.hybrid.pair.units)
    for tiny, engine in (*zip(pairs, engines, strict=True), (pairs[0], engines[0])):
        assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["gate_proj", "up_proj"])
def test_half_of_a_packed_parameter_is_never_sent_alone(tmp_path: Path, module: str) -> None:
    tiny = pair(tmp_path, "llama", module)
    engine = VllmEngine(tiny.loaded, runtime())
    for units in tiny.candidates(4):
        tiny.hybrid.set_units(units)
        assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)


@pytest.mark.slow
def test_half_of_a_packed_parameter_would_be_noticed(
    engine: tuple[Siblings, VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, asked = engine
    asked.generate_batch(PROMPTS, LENGTH)
    monkeypatch.setattr(Weights, "_block_of", lambda self, name: name)
    tiny.loaded.model.get_parameter("model.layers.0.mlp.gate_proj.weight").detach().mul_(1)
    with pytest.raises(DapaError, match=r"log-probabilities differ by .* did not take the weights over"):
        asked.generate_batch(PROMPTS, LENGTH)


@pytest.mark.slow
def test_the_student_is_back_bit_for_bit_after_any_hybrids(engine: tuple[Siblings, VllmEngine]) -> None:
    tiny, asked = engine

    def said() -> list[tuple[object, list[float]]]:
        found = asked._ask(prompt_tokens(asked.loaded, PROMPTS), LENGTH)
        return [(of.token_ids, [row[token].logprob for row, token in zip(*both(of), strict=True)]) for of in found]

    def both(of: Any) -> tuple[Any, Any]:
        return of.logprobs, of.token_ids

    before, others = said(), 0
    for units in tiny.candidates(8):
        tiny.hybrid.set_units(units)
        others += said() != before
        tiny.hybrid.set_units(())
        assert said() == before
    assert others


@pytest.mark.slow
def test_only_wanted_rows_are_asked_and_counted(engine: tuple[Siblings, VllmEngine]) -> None:
    tiny, asked = engine
    expected = plain(tiny)
    before = asked.work
    answers = asked.answers(Request(tuple(PROMPTS), LENGTH, frozenset([1, 3])))
    assert answers == {1: expected[1], 3: expected[3]}
    assert (asked.work - before).decoded == expected[1].tokens + expected[3].tokens - 2


@pytest.mark.slow
def test_what_agrees_is_said_in_figures(engine: tuple[Siblings, VllmEngine]) -> None:
    tiny, asked = engine
    found = asked.agreement(PROMPTS, LENGTH)
    assert found.answers == len(PROMPTS)
    assert found.likeliest == found.tokens == sum(answer.tokens for answer in plain(tiny))
    assert found.mean_difference <= found.largest_difference < 1e-4


@pytest.mark.slow
def test_too_little_memory_is_said_before_it_is_taken(tmp_path: Path) -> None:
    tiny = pair(tmp_path)
    with pytest.raises(DapaError, match=r"runtime.engine=vllm: weights and cache take 1000000\.0 GB a device"):
        VllmEngine(tiny.loaded, runtime(cache_memory=1e6)).generate_batch(PROMPTS, LENGTH)


@pytest.mark.slow
def test_a_model_that_vllm_does_not_take_is_refused_with_its_reason(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama", head_dim=8)
    tiny.loaded.model.name_or_path = str(tmp_path / "student")
    with pytest.raises(DapaError, match=r"vLLM cannot answer with this model: .*head_dim=8"):
        VllmEngine(tiny.loaded, runtime()).generate_batch(PROMPTS, LENGTH)
