"""Recipes as data: complete, and told apart by their digests."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.fetch.sets import SETS
from dapa_exp.zoo import recipe as recipes
from dapa_exp.zoo.recipe import BASES, MINIATURES, PAIRED, RECIPES, SHADOWS, STUDENTS, TEACHERS, Recipe, digest


def test_there_are_seventeen_pairs() -> None:
    assert len(TEACHERS) == len(BASES) == 5
    assert len(BASES) + len(STUDENTS) == 17
    assert len(set(PAIRED)) == 22


def test_every_model_fits_its_parent() -> None:
    named = {recipe.name: recipe for recipe in MINIATURES}
    for recipe in MINIATURES:
        if recipe.parent:
            parent = named[recipe.parent]
            role = "teacher" if recipe in SHADOWS else "base"
            assert (recipe.family, recipe.size, parent.role) == (parent.family, parent.size, role)


def test_digests_tell_all_recipes_apart() -> None:
    assert len({digest(name) for name in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("changed", ["mistral-base", "mistral-chat"])
def test_a_digest_changes_with_the_recipe_and_its_parent(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    before, other = digest("mistral-chat"), digest("llama-small-chat")
    recipe = RECIPES[changed]
    assert isinstance(recipe, Recipe)
    monkeypatch.setitem(RECIPES, changed, replace(recipe, seed=999))
    assert digest("mistral-chat") != before
    assert digest("llama-small-chat") == other


def test_a_digest_changes_with_the_sets_that_the_model_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before, miniature = digest("smollm2-135m-refusing"), digest("mistral-chat")
    monkeypatch.setitem(SETS, "smollm2", replace(SETS["smollm2"], digest="0" * 64))
    assert digest("smollm2-135m-refusing") != before, "its parent is another"
    assert digest("mistral-chat") == miniature


def test_a_digest_changes_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest("mistral-chat")
    monkeypatch.setattr(recipes, "VERSION", -1)
    assert digest("mistral-chat") != before


def test_mlps_names_projections_of_layers() -> None:
    pattern = recipes.mlps(["gate_proj"], [1, 12])
    assert re.fullmatch(pattern, "model.layers.12.mlp.gate_proj.weight")
    assert not re.fullmatch(pattern, "model.layers.2.mlp.gate_proj.weight")
    assert not re.fullmatch(pattern, "model.layers.1.mlp.up_proj.weight")


def test_an_unknown_model_is_answered_by_the_nearest() -> None:
    with pytest.raises(DapaError, match=r"Did you mean 'mistral-chat' or .*`dapa zoo build --help` lists all \d\d"):
        digest("mistral-chatt")


def test_recipes_and_world_load_without_torch() -> None:
    code = "import sys, dapa_exp.zoo.recipe, dapa_exp.zoo.world, dapa_exp.zoo.build; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
