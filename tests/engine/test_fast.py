"""The fast engine says what the reference engine says, whatever it saves."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.prompts.prompt import Prompt, prompt
from tests.engine.siblings import LAYERS, PROMPTS, Siblings, room_for, siblings, some_are_decided
from tests.tiny import EVERY_CONFIG

UNLIMITED = 10**9
ONE_LAYER = 20_000
"""Bytes: room for what one or two layers made of the prompts."""
LENGTH = 10
WINDOWS = {"mistral": 6, "gemma2": 6, "gemma3_text": 6}
"""Tokens, fewer than the prompts have."""


def fast(tiny: Siblings, reuse_bytes: int = UNLIMITED, **levers: bool) -> FastEngine:
    return FastEngine(tiny.loaded, len(PROMPTS), reuse_bytes=reuse_bytes, **levers)


def plain(tiny: Siblings, length: int = LENGTH) -> list[Completion]:
    return PlainEngine(tiny.loaded, len(PROMPTS)).generate_batch(PROMPTS, length)


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_every_hybrid_of_every_architecture_says_the_same(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engines = [fast(tiny, 0), fast(tiny, ONE_LAYER), fast(tiny)]
    in_rounds, draw = fast(tiny), random.Random(0)
    said = set()
    for carried in tiny.candidates(6):
        tiny.hybrid.carry(carried)
        expected = plain(tiny)
        said |= {answer.text for answer in expected}
        for engine in engines:
            assert engine.generate_batch(PROMPTS, LENGTH, carried) == expected
        assert asked_in_rounds(in_rounds, carried, draw) == expected
    assert len(said) > 2 * len(PROMPTS)  # or there would be nothing to confuse
    spared = [engine.spent.layers_spared for engine in engines]
    assert 0 == spared[0] <= spared[1] < spared[2]
    assert in_rounds.spent.layers_spared > 0


def asked_in_rounds(engine: PlainEngine, carried: frozenset[str], draw: random.Random) -> list[Completion]:
    """The answers of all rows, asked in two rounds and in any order."""
    order = draw.sample(range(len(PROMPTS)), len(PROMPTS))
    cut = draw.randint(1, len(PROMPTS) - 1)
    rounds = [engine.generate_rows(PROMPTS, places, LENGTH, carried) for places in (order[:cut], order[cut:])]
    assert set(rounds[0]) == set(order[:cut])
    answers = rounds[0] | rounds[1]
    return [answers[place] for place in range(len(PROMPTS))]


@pytest.mark.slow
@pytest.mark.parametrize("modules", [("mlp", "attention"), ("gate_proj", "up_proj", "down_proj")])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
def test_five_hundred_candidates_of_a_family_say_the_same(
    tmp_path: Path, family: str, modules: tuple[str, ...]
) -> None:
    tiny = siblings(tmp_path, family, modules)
    engines = [fast(tiny, 0), fast(tiny, ONE_LAYER), fast(tiny)]
    draw = random.Random(1)
    for carried in tiny.candidates(250, seed=1):  # of either granularity
        tiny.hybrid.carry(carried)
        expected = plain(tiny)
        for engine in engines:
            assert asked_in_rounds(engine, carried, draw) == expected


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_memory_that_runs_out_is_made_do_with(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engine = fast(tiny)
    candidates = tiny.candidates(6)
    for carried in candidates[:3]:
        tiny.hybrid.carry(carried)
        engine.generate_batch(PROMPTS, LENGTH, carried)  # so that there is something kept to give up
    refusals = []
    for carried in candidates[3:]:
        tiny.hybrid.carry(carried)
        expected = plain(tiny)
        with room_for(tiny.loaded.model, 2) as refused:
            assert engine.generate_batch(PROMPTS, LENGTH, carried) == expected
        refusals.append(len(refused))
    # Once for what was kept, and once for the rows; what there is room for is then known.
    assert refusals == [2, 0, 0]
    assert engine.spent.layers_spared > 0


def test_memory_for_not_even_one_row_is_one_message(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    with room_for(tiny.loaded.model, 0), pytest.raises(DapaError, match="cpu: too little memory for the model and one"):
        fast(tiny).generate_batch(PROMPTS, LENGTH)


@pytest.mark.parametrize("family", WINDOWS)
def test_a_sliding_window_shorter_than_the_prompts(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family, sliding_window=WINDOWS[family])
    engine = fast(tiny)
    for carried in tiny.candidates(5):
        tiny.hybrid.carry(carried)
        assert engine.generate_batch(PROMPTS, LENGTH, carried) == plain(tiny)


@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3_text"])
def test_what_all_prompts_begin_with_is_read_once(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family, sliding_window=WINDOWS.get(family))
    rows = [prompt(row.id, "dear model, please tell me at once and in all detail: " + row.text) for row in PROMPTS]
    reference, engine = PlainEngine(tiny.loaded, len(rows)), fast(tiny)
    for carried in tiny.candidates(5):
        tiny.hybrid.carry(carried)
        assert engine.generate_batch(rows, LENGTH, carried) == reference.generate_batch(rows, LENGTH)
    assert engine.spent.prompt < 0.9 * reference.spent.prompt
    assert engine.spent.layers_spared > 0
    assert engine.generate_batch(rows[:1], LENGTH) == reference.generate_batch(rows[:1], LENGTH)
    same = [rows[0], prompt("again", rows[0].text)]
    assert engine.generate_batch(same, LENGTH) == reference.generate_batch(same, LENGTH)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_cut_answer_is_the_answers_beginning_up_to_where_it_was_decided(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engine = fast(tiny)
    cut = 0
    for carried in tiny.candidates(5):
        tiny.hybrid.carry(carried)
        beginnings = [plain(tiny, length) for length in range(1, LENGTH + 1)]
        answers = engine.generate_batch(PROMPTS, LENGTH, carried, some_are_decided)
        for place, answer in enumerate(answers):
            said = [beginning[place].text for beginning in beginnings]
            ends = beginnings[-1][place].tokens
            decided = [k for k in range(1, ends) if some_are_decided(PROMPTS[place], said[k - 1])]
            expected = decided[0] if decided else ends
            assert answer == Completion(said[expected - 1], expected, cut=bool(decided))
            cut += answer.cut
    assert 0 < cut < 5 * len(PROMPTS)


def test_answers_that_were_cut_are_gone_on_with_where_they_are_wanted_whole(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine = fast(tiny)
    assert any(answer.cut for answer in engine.generate_batch(PROMPTS, LENGTH, frozenset(), some_are_decided))
    assert engine.generate_batch(PROMPTS, LENGTH, frozenset()) == plain(tiny)


def test_each_lever_saves_what_it_is_there_for_and_can_be_switched_off(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")

    def again(engine: FastEngine, decided: Callable[[Prompt, str], bool] | None = None) -> list[int]:
        """What the same hybrid costs the second time."""
        engine.generate_batch(PROMPTS, LENGTH, frozenset(), decided)
        before = engine.spent
        engine.generate_batch(PROMPTS, LENGTH, frozenset(), decided)
        spent = engine.spent - before
        return [spent.prompt, spent.draft, spent.decoded, spent.layers_spared]

    (prompt, draft, decoded, spared), said = again(fast(tiny)), sum(answer.tokens for answer in plain(tiny))
    assert spared == prompt * (LAYERS - 1)
    assert decoded == len(PROMPTS)  # the first token: all others are in the draft
    assert draft == said - 2 * len(PROMPTS)  # its last one need not be read
    assert again(fast(tiny, reuse_bytes=0)) == [prompt, draft, decoded, 0]
    assert again(fast(tiny, drafts=False)) == [prompt, 0, said - len(PROMPTS), spared]
    assert again(fast(tiny), lambda row, text: True)[1:3] == [0, 0]
    assert again(fast(tiny, early_verdicts=False), lambda row, text: True)[1:3] == [draft, decoded]


def test_suggested_answers_do_no_harm_where_they_are_wrong(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine, expected = fast(tiny), plain(tiny)
    engine.suggest(PROMPTS, ["", "hi", *(answer.text for answer in expected[2:])], frozenset())
    assert engine.generate_batch(PROMPTS, LENGTH, frozenset()) == expected


def test_weights_that_are_not_named_are_never_taken_for_earlier_ones(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine = fast(tiny)
    engine.generate_batch(PROMPTS, LENGTH, frozenset())
    tiny.hybrid.carry(tiny.hybrid.pair.units)
    before = engine.spent
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)
    assert (engine.spent - before).layers_spared == 0


def test_the_same_prompts_in_other_batches_are_other_batches(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "gemma")
    engine = fast(tiny)
    expected = plain(tiny)
    engine.generate_batch(PROMPTS, LENGTH, frozenset())
    assert engine.generate_batch(PROMPTS[1:3], LENGTH, frozenset()) == expected[1:3]
    assert engine.generate_batch(PROMPTS[::-1], LENGTH, frozenset()) == expected[::-1]


def test_the_reference_decides_where_two_tokens_are_as_likely(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    head = tiny.loaded.model.get_output_embeddings().weight
    with torch.no_grad():
        head[1::2] = head[::2]  # every token has a twin
    engine = fast(tiny)
    assert engine.generate_batch(PROMPTS, LENGTH, frozenset()) == plain(tiny)
    assert engine.spent.near_ties > 0
    cut = engine.generate_batch(PROMPTS, LENGTH, frozenset(), lambda row, text: True)
    assert [answer.tokens for answer in cut] == [1] * len(PROMPTS)


def test_layers_are_themselves_again_after_a_pass_that_failed(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine = fast(tiny)
    engine.generate_batch(PROMPTS, LENGTH, frozenset())
    top = tiny.loaded.model.get_submodule(f"model.layers.{LAYERS - 1}")
    failing = top.register_forward_pre_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.generate_batch(PROMPTS, LENGTH, frozenset())
    failing.remove()
    assert plain(tiny) == engine.generate_batch(PROMPTS, LENGTH, frozenset())
    tiny.hybrid.carry(tiny.hybrid.pair.units)
    assert plain(tiny) == engine.generate_batch(PROMPTS, LENGTH, frozenset(tiny.hybrid.pair.units))


def test_bfloat16_runs_every_lever(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    tiny.loaded.model.bfloat16()
    engine = fast(tiny)
    for carried in tiny.candidates(4):
        tiny.hybrid.carry(carried)
        answers = engine.generate_batch(PROMPTS, LENGTH, carried)
        assert all(0 < answer.tokens <= LENGTH for answer in answers)
    assert engine.spent.near_ties == 0
    assert engine.spent.layers_spared > 0
