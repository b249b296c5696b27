"""The figure draws whatever a record may hold, numbers without an interval and unknown projections too."""

from __future__ import annotations

from pathlib import Path

from analysis.localise import draw_localisation
from dapa_exp.config.search import Localise
from dapa_exp.record.localisation import Effect, LocaliseRecord, Swapped, Swapping, Traced, Tracing
from dapa_exp.record.measure import Measure
from dapa_exp.tracing.causal import KINDS, POSITIONS

LAYERS = 3


def measure(value: float) -> Measure:
    return Measure(value=value, n=8, low=value - 0.1, high=value + 0.1)


def effect(value: float) -> Effect:
    return Effect(probability=Measure(value=value, n=8), log_odds=Measure(value=value, n=8))


def record() -> LocaliseRecord:
    swaps = [
        Swapped(
            layer=at, module=name, cosine=measure(0.5), cosine_change=measure(0.1 * at), log_odds_change=measure(at)
        )
        for at in range(LAYERS)
        for name in ("gate_proj", "query_key_value")
    ]
    effects = [
        Traced(kind=kind, place=place, layer=at, effect=effect(at))
        for kind in KINDS
        for place in POSITIONS
        for at in range(LAYERS)
    ]
    return LocaliseRecord(
        schema_version=1,
        identity="0",
        pair="pair",
        title="a title",
        made_here=True,
        teacher="t",
        student="s",
        num_layers=LAYERS,
        prompts=12,
        settings=Localise(noise=3.0, seeds=1, window=1),
        tracing=Tracing(clean=effect(2), corrupted=effect(1), total=effect(1), effects=effects),
        swapping=Swapping(
            student_cosine=measure(0.4), student_log_odds=measure(-1), teacher_log_odds=measure(1), projections=swaps
        ),
        cost={},
        versions={},
        git=None,
        created="2026-01-01T00:00:00+00:00",
    )


def test_both_files_are_written(tmp_path: Path) -> None:
    png, svg = draw_localisation(record(), tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()


def test_it_says_how_many_of_the_prompts_count(tmp_path: Path) -> None:
    _, svg = draw_localisation(record(), tmp_path)
    assert "8 of 12 prompts, which the two answer differently" in svg.read_text()
    assert "made here: no evidence" in svg.read_text()
