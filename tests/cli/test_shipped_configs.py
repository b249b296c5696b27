"""Every shipped config composes: pairs, options, prompt sets and experiments."""

from __future__ import annotations

import pytest

from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.registries import METHODS
from dapa_exp.search import ALGORITHMS, Reduction
from tests.settings import OPTIONS, PAIRS


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_composes_under_its_own_name(pair: str) -> None:
    (job,) = jobs([f"pair={pair}"])
    assert job.config.pair.name == pair
    assert job.folder.name.startswith(f"{pair}-mlp-auto-miniature-")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option: str) -> None:
    extra = {
        "search=random": ["search.k=2"],
        "transplant=safe_lora": ["transplant.base={id: me/base, revision: null}"],
        "transplant=safe_merge": ["transplant.base=me/base"],
    }.get(option, [])
    (job,) = jobs([option, *extra])
    assert job.config


@pytest.mark.parametrize("name", sorted(file.stem for file in (conf_dir() / "prompt_set").glob("[!_]*.yaml")))
def test_every_prompt_set_takes_any_place_in_a_data_set(name: str) -> None:
    (job,) = jobs([f"+prompt_set@dataset.more_harmless.other={name}", f"prompt_set@dataset.harmless={name}"])
    sets = job.config.dataset.sets()
    assert sets["more_harmless.other"] == sets["harmless"] != sets["report"]


def test_the_papers_rows_are_searched_on_and_the_report_has_other_sets() -> None:
    (job,) = jobs(["pair=llama2-7b-vicuna-v1.5", "dataset=advbench128"])
    sets = job.config.dataset.sets()
    assert (sets["search"].source, sets["search"].rows) == (sets["report"].source, (0, 128))
    assert sets["report"].rows == (128, 520)
    assert {"more_report.harmbench", "more_report.jbb", "more_report.strongreject"} < sets.keys()
    assert sets["more_harmless.xstest"].where == {"label": "safe"}


def test_the_real_pair_is_swept_over_granularities_without_a_hub() -> None:
    found = jobs(["-m", "+experiment=smollm2"])
    assert [job.config.granularity.name for job in found] == ["projection", "mlp", "layer"]
    for config in (job.config for job in found):
        assert all(rows.fetched_name for rows in config.dataset.sets().values())
        assert config.family.teacher.zoo_name
        assert config.pair.student.zoo_name


def test_the_paper_has_seventeen_pairs_in_the_families_it_names() -> None:
    found = jobs(["-m", "+experiment=paper17"])
    assert [job.config.pair.paper17 for job in found] == [True] * 17
    families = [job.config.family.name for job in found]
    assert [families.count(name) for name in ("llama2", "mistral", "gemma")] == [5, 6, 6]
    assert {job.config.granularity.name for job in found} == {"gate_proj"}


def test_candidates_of_the_released_code_are_all_there() -> None:
    every = [jobs([f"pair={pair}"])[0].config for pair in PAIRS]
    real = [config for config in every if not config.family.made_here]
    assert len(real) == 31
    assert len({config.pair.student.id for config in real}) == 31
    assert sum(config.pair.paper17 for config in real) == 17


def test_the_miniature_sweep_mirrors_the_paper() -> None:
    found = jobs(["-m", "+experiment=miniature"])
    families = [job.config.family.name for job in found]
    assert [families.count(f"mini-{name}") for name in ("llama", "mistral", "gemma")] == [5, 6, 6]
    assert len({job.folder for job in found}) == 17


def test_every_algorithm_searches_teachers_of_every_other_kind() -> None:
    found = [job.config for job in jobs(["-m", "+experiment=miniature_teachers"])]
    searching = {name for name, algorithm in ALGORITHMS if isinstance(algorithm, Reduction)}
    assert {config.search.algorithm for config in found} == searching - {"exhaustive"}
    kinds = {"mini-scattered", "mini-attention", "mini-both", "mini-everywhere"}
    assert {config.family.name for config in found} == kinds
    assert len(found) == 8 * 2 * 2 * (len(searching) - 1)


@pytest.mark.parametrize("name", ["miniature_ablate_projection", "paper17_ablate_projection"])
def test_ablations_cross_pairs_with_granularities(name: str) -> None:
    found = jobs(["-m", f"+experiment={name}", "pair=mini-mistral-base,mini-gemma-small-base"])
    assert len(found) == 2 * 6
    assert len({job.identity for job in found}) == 12


def test_every_algorithm_and_every_method_is_an_option_by_its_name() -> None:
    more = {"given": ["search.units=[layers.0.mlp]"], "random": ["search.k=2"], "share": ["search.share=0.1"]}
    for name in ALGORITHMS.names():
        (job,) = jobs([f"search={name}", *more.get(name, [])])
        assert job.config.search.algorithm == name
        assert job.config.search.prior == ("attribution" if name in ("prior", "share") else None)
    for name in METHODS.names():
        base = ["transplant.base=me/base"] if name.startswith("safe_") else []
        (job,) = jobs([f"transplant={name}", *base])
        assert job.config.transplant.method == name
