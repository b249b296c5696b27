"""A whole localisation of a miniature whose teacher differs from its student in planted tensors only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.localise import localise_command
from dapa_exp.config.schema import Config
from dapa_exp.localise.localise import localise
from dapa_exp.record.localisation import LocaliseRecord, read_localise
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build

PLANTED = {2, 5}
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config() -> Config:
    build(["llama-small-planted"], silent, processes=1)
    words = [f"family.teacher.id={store.path('llama-small-planted')}", "dataset.search.rows=[0,12]"]
    return jobs(["pair=mini-llama-small-base", *words])[0].config


@pytest.fixture(scope="module")
def folder(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("localise")
    localise(config, folder, silent)
    return folder


@pytest.fixture
def record(folder: Path) -> LocaliseRecord:
    found = read_localise(folder)
    assert found is not None
    return found


def test_swapping_finds_the_planted_projections_and_nothing_else(record: LocaliseRecord) -> None:
    assert {swap.module for swap in record.swapping.projections} == PROJECTIONS
    for swap in record.swapping.projections:
        planted = swap.layer in PLANTED and swap.module in {"gate_proj", "up_proj", "down_proj"}
        assert (swap.log_odds_change.value > 0.1) == planted
        assert (swap.cosine_change.value > 0.01) == planted


def test_teacher_and_student_are_told_apart(record: LocaliseRecord) -> None:
    assert record.swapping.teacher_log_odds.low > 0 > record.swapping.student_log_odds.high  # type: ignore[operator]


def test_tracing_ranks_planted_mlps_high(record: LocaliseRecord) -> None:
    effect = dict.fromkeys(range(record.num_layers), 0.0)
    for traced in record.tracing.effects:
        if traced.kind == "mlp":
            effect[traced.layer] += traced.effect.log_odds.value
    ranked = sorted(effect, key=effect.__getitem__, reverse=True)
    assert ranked[0] in PLANTED
    assert set(ranked[:3]) >= PLANTED  # layer 0, which reads the noisy embeddings, may come between


def test_every_number_has_its_n_and_interval(record: LocaliseRecord) -> None:
    measures = [traced.effect.probability for traced in record.tracing.effects]
    measures += [swap.cosine for swap in record.swapping.projections]
    for measure in measures:
        assert measure.n == 12
        if measure.value != 0.0:  # where no row moves, nothing says how far others would
            assert measure.low is not None
            assert measure.high is not None


def test_an_interrupted_one_goes_on_from_what_is_on_disk(
    config: Config, folder: Path, record: LocaliseRecord, tmp_path: Path
) -> None:
    for part in ("identity.json", "localise", "generations"):
        (tmp_path / part).symlink_to(folder / part)
    kept = json.loads((folder / "localise" / "swap-0.json").read_text())
    again = localise(config, tmp_path, silent)
    assert again.tracing == record.tracing
    assert again.swapping.projections == record.swapping.projections
    assert json.loads((folder / "localise" / "swap-0.json").read_text()) == kept
    assert again.cost["teacher"].tokens == again.cost["student"].tokens == 0


def test_a_sweep_over_its_settings_carries_out_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("dapa_exp.localise.localise.localise", lambda config, folder, report: asked.append(folder))
    monkeypatch.setattr("dapa_exp.cli.localise.draw_localisation", lambda record, folder: [])
    assert localise_command(["-m", "pair=mini-llama-small-style", "localise.noise=1,3", f"record.dir={tmp_path}"]) == 0
    assert len(set(asked)) == 2


def test_other_settings_in_the_same_folder_are_refused(config: Config, folder: Path) -> None:
    other = config.model_copy(update={"localise": config.localise.model_copy(update={"noise": 5.0})})
    with pytest.raises(DapaError, match="these settings differ: noise"):
        localise(other, folder, silent)


def test_another_pair_in_the_same_folder_is_refused(config: Config, folder: Path) -> None:
    pair = config.pair.model_copy(update={"chat_template": "own"})
    with pytest.raises(DapaError, match=r"these keys differ: pair\.chat_template"):
        localise(config.model_copy(update={"pair": pair}), folder, silent)
