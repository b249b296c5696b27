"""The fast engine says what the reference engine says, whatever it saves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.fast import FastEngine
from dapa_exp.engine.plain import Completion, Decided, PlainEngine, Request
from dapa_exp.prompts.prompt import prompt
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.methods.elementwise import Blend
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


def decided_batch(engine: PlainEngine, decided: Decided | None) -> list[Completion]:
    """The answers to all prompts, cut where they are decided."""
    answers = engine.answers(Request(tuple(PROMPTS), LENGTH, decided=decided))
    return [answers[place] for place in range(len(PROMPTS))]


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_every_hybrid_of_every_architecture_says_the_same(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engines = [fast(tiny, 0), fast(tiny, ONE_LAYER), fast(tiny)]
    in_rounds, draw = fast(tiny), random.Random(0)
    said = set()
    for units in tiny.candidates(6):
        tiny.hybrid.set_units(units)
        expected = plain(tiny)
        said |= {answer.text for answer in expected}
        for engine in engines:
            assert engine.generate_batch(PROMPTS, LENGTH) == expected
        assert asked_in_rounds(in_rounds, draw) == expected
    assert len(said) > 2 * len(PROMPTS)  # or there would be nothing to confuse
    spared = [engine.work.layers_spared for engine in engines]
    assert 0 == spared[0] <= spared[1] < spared[2]
    assert in_rounds.work.layers_spared > 0


def asked_in_rounds(engine: PlainEngine, draw: random.Random) -> list[Completion]:
    """The answers of all rows, asked in two rounds and in any order."""
    order = draw.sample(range(len(PROMPTS)), len(PROMPTS))
    cut = draw.randint(1, len(PROMPTS) - 1)
    rounds = [
        engine.answers(Request(tuple(PROMPTS), LENGTH, frozenset(places))) for places in (order[:cut], order[cut:])
    ]
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
    for units in tiny.candidates(250, seed=1):  # of either granularity
        tiny.hybrid.set_units(units)
        expected = plain(tiny)
        for engine in engines:
            assert asked_in_rounds(engine, draw) == expected


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_memory_that_runs_out_is_made_do_with(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engine = fast(tiny)
    candidates = tiny.candidates(6)
    for units in candidates[:3]:
        tiny.hybrid.set_units(units)
        engine.generate_batch(PROMPTS, LENGTH)  # so that there is something kept to give up
    refusals = []
    for units in candidates[3:]:
        tiny.hybrid.set_units(units)
        expected = plain(tiny)
        with room_for(tiny.loaded.model, 2) as refused:
            assert engine.generate_batch(PROMPTS, LENGTH) == expected
        refusals.append(len(refused))
    # Once for what was kept, and once for the rows; what there is room for is then known.
    assert refusals == [2, 0, 0]
    assert engine.work.layers_spared > 0


def test_memory_for_not_even_one_row_is_one_message(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    with room_for(tiny.loaded.model, 0), pytest.raises(DapaError, match="cpu: too little memory for the model and one"):
        fast(tiny).generate_batch(PROMPTS, LENGTH)


@pytest.mark.parametrize("family", WINDOWS)
def test_a_sliding_window_shorter_than_the_prompts(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family, sliding_window=WINDOWS[family])
    engine = fast(tiny)
    for units in tiny.candidates(5):
        tiny.hybrid.set_units(units)
        assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)


@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3_text"])
def test_what_all_prompts_begin_with_is_read_once(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family, sliding_window=WINDOWS.get(family))
    rows = [prompt(row.id, "dear model, please tell me at once and in all detail: " + row.text) for row in PROMPTS]
    reference, engine = PlainEngine(tiny.loaded, len(rows)), fast(tiny)
    for units in tiny.candidates(5):
        tiny.hybrid.set_units(units)
        assert engine.generate_batch(rows, LENGTH) == reference.generate_batch(rows, LENGTH)
    assert engine.work.prompt < 0.9 * reference.work.prompt
    assert engine.work.layers_spared > 0
    assert engine.generate_batch(rows[:1], LENGTH) == reference.generate_batch(rows[:1], LENGTH)
    same = [rows[0], prompt("again", rows[0].text)]
    assert engine.generate_batch(same, LENGTH) == reference.generate_batch(same, LENGTH)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_cut_answer_is_the_answers_beginning_up_to_where_it_was_decided(tmp_path: Path, family: str) -> None:
    tiny = siblings(tmp_path, family)
    engine = fast(tiny)
    cut = 0
    for units in tiny.candidates(5):
        tiny.hybrid.set_units(units)
        beginnings = [plain(tiny, length) for length in range(1, LENGTH + 1)]
        answers = decided_batch(engine, some_are_decided)
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
    assert any(answer.cut for answer in decided_batch(engine, some_are_decided))
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)


def test_each_lever_saves_what_it_is_there_for_and_can_be_switched_off(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")

    def again(engine: FastEngine, decided: Decided | None = None) -> list[int]:
        """What the same hybrid costs the second time."""
        decided_batch(engine, decided)
        before = engine.work
        decided_batch(engine, decided)
        work = engine.work - before
        return [work.prompt, work.draft, work.decoded, work.layers_spared]

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
    assert engine.generate_batch(PROMPTS, LENGTH) == expected


def test_the_engine_knows_by_itself_whose_weights_it_generates_with(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    pair, engine = tiny.hybrid.pair, fast(tiny)
    engine.generate_batch(PROMPTS, LENGTH)
    tiny.hybrid.set_units(pair.units)
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)
    tiny.hybrid.set_units(())
    # Units of the same names, and other weights: nothing that was kept of the first may be taken for theirs.
    other = Hybrid(tiny.loaded.model, pair, Blend(pair, 0.5, {}))
    other.set_units(pair.units)
    before = engine.work
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)
    assert (engine.work - before).layers_spared == 0
    with pytest.raises(AssertionError, match="another hybrid"):
        tiny.hybrid.set_units(pair.units)


def test_what_is_not_asked_again_takes_no_memory(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine = fast(tiny)
    for _ in range(2):
        engine.answers(Request(tuple(PROMPTS), LENGTH, reuse=False))
    assert engine.work.layers_spared == 0


def test_the_same_prompts_in_other_batches_are_other_batches(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "gemma")
    engine = fast(tiny)
    expected = plain(tiny)
    engine.generate_batch(PROMPTS, LENGTH)
    assert engine.generate_batch(PROMPTS[1:3], LENGTH) == expected[1:3]
    assert engine.generate_batch(PROMPTS[::-1], LENGTH) == expected[::-1]


def test_the_reference_decides_where_two_tokens_are_as_likely(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    head = tiny.loaded.model.get_output_embeddings().weight
    with torch.no_grad():
        head[1::2] = head[::2]  # every token has a twin
    engine = fast(tiny)
    assert engine.generate_batch(PROMPTS, LENGTH) == plain(tiny)
    assert engine.work.near_ties > 0
    cut = decided_batch(engine, lambda row, text: True)
    assert [answer.tokens for answer in cut] == [1] * len(PROMPTS)


def test_layers_are_themselves_again_after_a_pass_that_failed(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    engine = fast(tiny)
    engine.generate_batch(PROMPTS, LENGTH)
    top = tiny.loaded.model.get_submodule(f"model.layers.{LAYERS - 1}")
    failing = top.register_forward_pre_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.generate_batch(PROMPTS, LENGTH)
    failing.remove()
    assert plain(tiny) == engine.generate_batch(PROMPTS, LENGTH)
    tiny.hybrid.set_units(tiny.hybrid.pair.units)
    assert plain(tiny) == engine.generate_batch(PROMPTS, LENGTH)


def test_bfloat16_runs_every_lever(tmp_path: Path) -> None:
    tiny = siblings(tmp_path, "llama")
    tiny.loaded.model.bfloat16()
    engine = fast(tiny)
    for units in tiny.candidates(4):
        tiny.hybrid.set_units(units)
        answers = engine.generate_batch(PROMPTS, LENGTH)
        assert all(0 < answer.tokens <= LENGTH for answer in answers)
    assert engine.work.near_ties == 0
    assert engine.work.layers_spared > 0
