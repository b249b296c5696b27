"""Priors: what each promises, on models small enough to know the answer."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import rankdata

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.config.registries import PRIORS
from dapa_exp.config.search import Localise
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.models.architecture import units
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.prompts.prompt import prompt
from dapa_exp.prompts.rows import load_rows
from dapa_exp.search.attribution import estimated_changes, neuron_attribution
from dapa_exp.search.difference import difference_cosine, difference_norm
from dapa_exp.search.evidence import Evidence, compute_prior
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.methods.neurons import SwapNeurons
from dapa_exp.zoo import recipe, store, tokenizer as tokenizers
from dapa_exp.zoo.build import build
from tests.tiny import CONFIGS, tiny_checkpoint, tiny_model

PROMPTS = [prompt("a", "how do i hack a server?"), prompt("b", "please help me rob a museum.")]
SETTINGS = Localise(noise=3.0, seeds=2, window=1)


def evidence(folder: Path, family: str, modules: tuple[str, ...] = ("mlp",), step: float = 1.0) -> Evidence:
    """Two tiny models; the teacher's weights are `step` of the way from the student's to random ones."""
    tokenizer = tokenizers.make(family)
    tokenizer.padding_side = "left"
    teacher, student = (tiny_model(family, seed, vocab_size=len(tokenizer)) for seed in (1, 2))
    with torch.no_grad():
        for weight, other in zip(teacher.parameters(), student.parameters(), strict=True):
            weight.lerp_(other, 1.0 - step)
    folders = folder / "teacher", folder / "student"
    for model, place in zip((teacher, student), folders, strict=True):
        model.save_pretrained(place)
    ours, theirs = TensorReader(folders[1]), TensorReader(folders[0])
    pair = Pair(*folders, theirs, ours, family, 3, units(family, 3, modules, ours), ())
    loaded = LoadedModel(student.eval(), tokenizer)
    teachers, students = ["sorry", "sorry"], ["sure", "i can"]
    return Evidence(pair, Hybrid(student, pair), loaded, PROMPTS, teachers, students, 1, SETTINGS, seed=0)


@pytest.mark.parametrize("modules", [("mlp",), ("layer",), ("gate_proj", "up_proj", "down_proj"), ("attention",)])
@pytest.mark.parametrize("name", PRIORS.names())
def test_a_prior_scores_every_unit_and_leaves_the_student(tmp_path: Path, name: str, modules: tuple[str, ...]) -> None:
    given = evidence(tmp_path, "llama", modules)
    prior = compute_prior(name, given)
    assert list(prior.scores) == list(given.pair.units)
    assert given.hybrid.verify()["transplanted"] == {}
    assert all(p.requires_grad and p.grad is None for p in given.loaded.model.parameters())


def test_an_unknown_prior_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match="Did you mean 'attribution'"):
        compute_prior("atribution", evidence(tmp_path, "llama"))


def test_a_prior_beyond_its_numbers_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DapaError, match=r"attribution: the score of \d units, such as layers\.0.*, is NaN.*search\.prior=null"
    ):
        compute_prior("attribution", evidence(tmp_path, "llama", step=1e30))


def test_the_cost_is_counted_in_prompts(tmp_path: Path) -> None:
    given = evidence(tmp_path, "llama")
    costs = {name: (p.forwards, p.backwards) for name in PRIORS.names() for p in [compute_prior(name, given)]}
    assert costs["attribution"] == costs["shuffled"] == (4, 4)  # 2 prompts, at both ends
    assert costs["single_swap"] == ((3 + 1) * 2, 0)  # 3 units and none
    assert costs["difference_norm"] == costs["uniform"] == (0, 0)


@pytest.mark.parametrize("family", CONFIGS)
def test_attribution_is_the_change_of_log_odds_where_the_step_is_small(tmp_path: Path, family: str) -> None:
    given = evidence(tmp_path, family, step=0.01)
    estimated = compute_prior("attribution", given).scores
    measured = compute_prior("single_swap", given).scores
    for unit, value in measured.items():
        assert estimated[unit] == pytest.approx(value, rel=0.1, abs=1e-6)


def test_batches_do_not_change_an_attribution(tmp_path: Path) -> None:
    given = evidence(tmp_path, "llama")
    one, two = (estimated_changes(given.loaded, given.pair, given.pair.teacher, given.forks, size) for size in (1, 2))
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_units_attribution_is_that_of_its_neurons_together(tmp_path: Path, family: str) -> None:
    given = evidence(tmp_path, family, ("mlp", "attention"))
    by_unit = compute_prior("attribution", given).scores
    mlps = {unit: parts for unit, parts in given.pair.units.items() if unit.endswith("mlp")}
    axes = SwapNeurons(replace(given.pair, units=mlps), 0.5, "attribution").axes
    by_neuron = neuron_attribution(given.loaded, given.pair, axes, given.forks, 1)
    assert list(by_neuron) == list(mlps)
    for unit, scores in by_neuron.items():
        assert scores.shape == (24,)
        assert float(scores.sum()) == pytest.approx(by_unit[unit], rel=1e-4, abs=1e-6)
    assert given.hybrid.verify()["transplanted"] == {}


def test_at_most_one_gradient_is_alive_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = evidence(tmp_path, "llama", ("layer",))
    model = given.loaded.model
    alive: list[int] = []
    read_tensor = TensorReader.read

    def counting(reader: TensorReader, name: str) -> torch.Tensor:
        alive.append(sum(parameter.grad is not None for parameter in model.parameters()))
        return read_tensor(reader, name)

    monkeypatch.setattr(TensorReader, "read", counting)
    estimated_changes(given.loaded, given.pair, given.pair.teacher, given.forks, 2)
    assert alive == [1] * sum(map(len, given.pair.units.values()))


@pytest.mark.slow
def test_attribution_needs_little_more_memory_than_inference(tmp_path: Path) -> None:
    """In a process of its own, whose allocator gives large blocks back at once, so that its peak is what was in use."""
    size = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10}
    for name, seed in (("teacher", 1), ("student", 2)):
        checkpoint = tiny_checkpoint(tmp_path / name, "llama", seed, **size)
    tensors = [tensor.bytes for tensor in TensorReader(checkpoint).tensors.values()]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
    words = [sys.executable, "-m", "tests.search.attribution_memory", str(tmp_path)]
    extra = int(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
    activations = 8 * 16 * (10 * 512 + 5 * 2048) * 4  # one layer's: prompts, tokens, states a token, bytes each
    blocks = 16 * 2**20
    allowed = 2 * activations + 2 * max(tensors) + blocks  # activations and their gradients, two tensors, conversion
    assert extra < allowed < sum(tensors) / 2


def test_differences_by_hand(tmp_path: Path) -> None:
    given = evidence(tmp_path, "llama", ("gate_proj",))
    for unit, (name,) in given.pair.units.items():
        teacher, student = (side.read(name).double() for side in (given.pair.teacher, given.pair.student))
        norm, cosine = (
            (teacher - student).norm() / student.norm(),
            1 - torch.sum(teacher * student) / teacher.norm() / student.norm(),
        )
        assert difference_norm(given.pair)[unit] == pytest.approx(float(norm), rel=1e-5)
        assert difference_cosine(given.pair)[unit] == pytest.approx(float(cosine), rel=1e-5)


def test_shuffled_scores_are_the_attributions_in_a_seeded_order(tmp_path: Path) -> None:
    given = evidence(tmp_path, "llama")
    shuffled, again = (compute_prior("shuffled", given).scores for _ in range(2))
    scores = compute_prior("attribution", given).scores
    assert shuffled == again
    assert sorted(shuffled.values()) == sorted(scores.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "modules", "planted"),
    [
        ("llama-small-planted", "mlp", {"layers.2.mlp", "layers.5.mlp"}),
        ("mistral-planted", "projection", {"layers.1.mlp.gate_proj", "layers.3.mlp.gate_proj"}),
        ("gemma-small-planted", "projection", {"layers.4.mlp.up_proj", "layers.4.mlp.down_proj"}),
    ],
)
def test_attribution_puts_planted_units_on_top(teacher: str, modules: str, planted: set[str]) -> None:
    scores = compute_prior("attribution", miniature(teacher, modules)).scores
    assert area_under_curve(scores, planted) == 1.0


def miniature(teacher: str, granularity: str) -> Evidence:
    """A planted teacher and its base, 24 search rows."""
    parent = recipe.find(teacher).parent
    assert parent is not None
    build([teacher], lambda _: None, processes=1)
    words = [f"family.teacher.id={store.path(teacher)}", f"pair.student.id={store.path(parent)}"]
    pair_name = f"mini-{teacher.removesuffix('-planted')}-base"
    (job,) = jobs([f"pair={pair_name}", *words, f"granularity={granularity}", "dataset.search.rows=[0,24]"])
    pair, prompts = open_pair(job.config), load_rows(job.config.dataset.search)
    engines = [
        PlainEngine(load_model(folder, job.config.runtime, pair.teacher_folder), 24)
        for folder in (pair.teacher_folder, pair.student_folder)
    ]
    teachers, students = ([answer.text for answer in engine.generate_batch(prompts, 8)] for engine in engines)
    loaded = engines[1].loaded
    return Evidence(pair, Hybrid(loaded.model, pair), loaded, prompts, teachers, students, 24, SETTINGS, 0)


def area_under_curve(scores: dict[str, float], positive: set[str]) -> float:
    """Chance that a positive unit outranks a negative one (Mann-Whitney), ties counting half."""
    ranks = dict(zip(scores, rankdata(list(scores.values())), strict=True))
    k = len(positive)
    return float((sum(ranks[unit] for unit in positive) - k * (k + 1) / 2) / (k * (len(scores) - k)))
