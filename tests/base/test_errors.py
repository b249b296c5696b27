"""What a message says about an unknown name."""

from __future__ import annotations

from dapa_exp.base.errors import FEW, allowed_names

PAIRS = [f"mini-llama-{number}" for number in range(FEW + 1)]


def test_a_short_list_is_written_out() -> None:
    assert allowed_names("gaol", ["goal", "kind"], "It has") == " Did you mean 'goal'? It has: goal, kind"
    assert allowed_names("xyz", PAIRS[:FEW], listed_by="dapa run --help").endswith(f"Allowed: {', '.join(PAIRS[:FEW])}")


def test_of_a_long_list_the_nearest_names_are_written_and_the_command_that_lists_all() -> None:
    said = allowed_names("mini-lama-7", PAIRS, listed_by="dapa run --help")
    assert said.startswith(" Did you mean 'mini-llama-7' or ")
    assert said.count("mini-llama") == 3
    assert said.endswith(f"? `dapa run --help` lists all {FEW + 1}")
    assert allowed_names("xyz", PAIRS, listed_by="dapa run --help") == f" `dapa run --help` lists all {FEW + 1}"
