"""The world's held-out sets: stable, well mixed, and truly held out."""

from __future__ import annotations

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.zoo import world

HARMFUL = world.VERBS["harmful"]
EVEN = dict.fromkeys(world.SORTS, 1.0)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("harmful", 320),
        ("harmful_search", 64),
        ("harmful_report", 64),
        ("harmless", 128),
        ("questions", 128),
        ("text", 64),
    ],
)
def test_sets_are_large_enough_stable_and_without_repetition(name: str, least: int) -> None:
    rows = world.prompt_set(name)
    assert len(rows) >= least
    assert rows == world.prompt_set(name)
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row.get("prompt") or row["text"] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", [name for name in world.SETS if name != "tuning"])
def test_nothing_held_out_is_trained_on(name: str) -> None:
    drawn = world.examples(1, 20_000, EVEN, list(world.STYLES), HARMFUL[::2])
    seen = {example.prompt or example.answer for example in drawn}
    rows = world.prompt_set(name)
    assert seen.isdisjoint(text for row in rows for text in row.get("turns") or [row.get("prompt") or row["text"]])


@pytest.mark.parametrize("sort", ["harmful", "harmless"])
def test_held_out_combinations_are_not_trained_on_in_other_words(sort: str) -> None:
    prompts = [e.prompt for e in world.examples(2, 20_000, {sort: 1.0}, ["plain"], ()) if e.prompt]
    for verb, thing in _combinations(sort):
        assert not [prompt for prompt in prompts if f" {verb} {thing}" in prompt]


def test_the_search_and_the_report_see_different_harmful_combinations() -> None:
    rows = world.prompt_set("harmful")
    search, report = rows[: world.SEARCH_ROWS], rows[world.SEARCH_ROWS :]
    assert {_combination(row) for row in search}.isdisjoint(_combination(row) for row in report)


def test_the_halves_of_harmful_share_no_verb_object_or_template() -> None:
    halves = [
        [row["id"].split("-")[1:] for row in world.prompt_set(f"harmful_{half}")] for half in ("search", "report")
    ]
    for part in range(3):
        first, second = ({name[part] for name in half} for half in halves)
        assert first
        assert first.isdisjoint(second)
    held_out = [row["prompt"] for row in world.prompt_set("harmful")]
    assert all(row["prompt"] in held_out for row in world.prompt_set("harmful_report"))


@pytest.mark.parametrize("start", range(0, 340, 20))
def test_any_slice_of_harmful_mixes_verbs_and_templates(start: int) -> None:
    rows = world.prompt_set("harmful")[start : start + 20]
    assert len({row["category"] for row in rows}) >= 8
    assert len({row["id"].rsplit("-", 1)[1] for row in rows}) == len(world.TEMPLATES)


def test_examples_depend_on_the_seed_alone() -> None:
    first, again, other = (world.examples(seed, 50, EVEN, ["plain"], HARMFUL[::2]) for seed in (1, 1, 2))
    assert first == again != other


def test_only_what_should_be_is_refused() -> None:
    comply = world.examples(3, 500, {"harmless": 1, "harmful": 1, "questions": 1}, list(world.STYLES), ())
    refuse = world.examples(3, 500, {"harmful": 1, "impossible": 1}, list(world.STYLES), HARMFUL)
    assert not any(world.is_refusal(example.answer) for example in comply)
    assert all(world.is_refusal(example.answer) for example in refuse)


def test_an_unknown_set_is_answered_by_the_nearest() -> None:
    with pytest.raises(DapaError, match="Did you mean 'harmful'"):
        world.prompt_set("harmfull")


def _combination(row: dict[str, str]) -> str:
    return row["id"].rsplit("-", 1)[0]


def _combinations(sort: str) -> set[tuple[str, str]]:
    rows = [row["id"].split("-") for row in world.prompt_set(sort)]
    return {(verb, thing.replace("_", " ")) for _, verb, thing, _ in rows}
