"""Decoding in fixed shapes says what the reference engine says. The GPU's graph of it is not tested here."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.engine import fast
from dapa_exp.engine.fast import FastEngine, Generation
from dapa_exp.engine.fixed_steps import can_decode_in_fixed_shapes
from dapa_exp.engine.plain import PlainEngine
from tests.engine.siblings import PROMPTS, Siblings, siblings
from tests.tiny import EVERY_CONFIG

LENGTH = 20


class InFixedShapes(FastEngine):
    """Decodes in fixed shapes on the CPU too, and counts the segments."""

    segments = 0

    def _decodes_in_fixed_shapes(self, generation: Generation) -> bool:
        return True

    def _decode_in_fixed_shapes(self, generation: Generation, *arguments: object) -> None:
        self.segments += 1
        super()._decode_in_fixed_shapes(generation, *arguments)  # type: ignore[arg-type]


def engine(tiny: Siblings) -> InFixedShapes:
    return InFixedShapes(tiny.loaded, len(PROMPTS), reuse_bytes=10**9)


@pytest.mark.parametrize("segment", [128, 6])
@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_every_architecture_says_the_same(
    tmp_path: Path, family: str, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "SEGMENT", segment)
    monkeypatch.setattr(fast, "STRIDE", 4)
    tiny = siblings(tmp_path, family)
    fixed, reference = engine(tiny), PlainEngine(tiny.loaded, len(PROMPTS))
    for units in tiny.candidates(4):
        tiny.hybrid.set_units(units)
        expected = reference.generate_batch(PROMPTS, LENGTH)
        longest = max(expected, key=lambda answer: answer.tokens)
        # A token out of its middle ends rows at different lengths.
        reference.ends = fixed.ends = frozenset({longest.ids[longest.tokens // 2], *reference.ends})
        assert fixed.generate_batch(PROMPTS, LENGTH) == reference.generate_batch(PROMPTS, LENGTH)
    assert fixed.segments


def test_a_window_shorter_than_the_row_is_left_to_the_usual_way(tmp_path: Path) -> None:
    model = siblings(tmp_path, "mistral", sliding_window=12).loaded.model
    assert can_decode_in_fixed_shapes(model, 12)
    assert not can_decode_in_fixed_shapes(model, 13)
