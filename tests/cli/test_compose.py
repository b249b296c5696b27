"""Words of the command line are composed as Hydra composes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.prompts.rows import load_rows
from tests.settings import PAIRS, problems


def test_a_flag_may_follow_an_override() -> None:
    words = ["pair=mini-mistral-base", "-m", "search=all,none", "--config-dir", "/tmp", "granularity=layer"]
    assert [job.config.search.algorithm for job in jobs(words)] == ["all", "none"]


def test_a_glob_sweeps_a_family() -> None:
    found = jobs(["-m", "pair=glob(llama2-13b-*)"])
    assert len(found) == 7
    assert {job.config.family.teacher.id for job in found} == {"meta-llama/Llama-2-13b-chat-hf"}


def test_a_folder_may_be_named_by_time_place_and_number() -> None:
    """All of a sweep by one time: it is composed once, and nothing is named again when it starts."""
    first, second = jobs(
        ["-m", "search=all,none", "hydra.sweep.dir=out/${now:%f}", "hydra.sweep.subdir=${hydra.job.num}"]
    )
    assert first.folder.parent == second.folder.parent
    assert first.folder.parent.name.isdigit()
    assert [first.folder.name, second.folder.name] == ["0", "1"]
    (job,) = jobs(["record.dir=${hydra:runtime.cwd}/out", "record.experiment=x${now:%Y}"])
    assert job.folder.is_relative_to(Path.cwd() / "out")
    assert job.config.record.experiment.removeprefix("x").isdigit()


def test_a_folder_that_only_a_launcher_can_name_is_refused() -> None:
    (problem,) = problems("-m", "hydra.sweep.subdir=${hydra.job.id}")
    assert "Missing mandatory value: hydra.job.id" in problem


def mine(folder: Path, content: str) -> tuple[str, str, str]:
    """An experiment of a user's own, and the words that name it."""
    file = folder / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\n{content}")
    return "-cd", str(folder), "+experiment=mine"


def test_a_mode_that_an_experiment_sets_is_composed_as_it_is_run(tmp_path: Path) -> None:
    words = mine(tmp_path, "hydra: {mode: MULTIRUN, sweeper: {params: {search: 'all,none'}}}\n")
    assert [job.config.search.algorithm for job in jobs(words)] == ["all", "none"]
    assert len(jobs(["hydra.mode=MULTIRUN", "search=all,none"])) == 2
    (problem,) = problems(*words, "search.threshold=2")
    assert "search.threshold: is 2" in problem


def test_a_reference_to_another_group_is_resolved_for_each_run(tmp_path: Path) -> None:
    words = mine(tmp_path, "record: {experiment: 'of-${granularity.name}'}\n")
    found = jobs(["-m", *words, "granularity=mlp,layer", "search=all,none"])
    assert [job.folder.parent.name for job in found] == ["of-mlp", "of-mlp", "of-layer", "of-layer"]


@pytest.mark.parametrize(
    "word",
    [
        "hydra.sweeper.params={search: 'all,none'}",
        "+hydra.sweeper.params={search: 'all,none'}",
        "hydra.sweeper.params.search=all,none",
        "+hydra.sweeper.params.search='all,none'",
        "search=choice(all,none)",
        "search=glob([all,none])",
        "search=all,none",
    ],
)
@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_each_way_to_say_what_is_swept(word: str, flag: str) -> None:
    assert sorted(job.config.search.algorithm for job in jobs([flag, word])) == ["all", "none"]


def test_parameters_of_the_command_line_join_those_of_an_experiment(tmp_path: Path) -> None:
    words = mine(tmp_path, "hydra: {sweeper: {params: {search: 'all,none', search.seed: '1,2'}}}\n")
    found = jobs(["-m", *words, "hydra.sweeper.params={search.seed: 7}"])
    assert [(job.config.search.algorithm, job.config.search.seed) for job in found] == [("all", 7), ("none", 7)]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "hydra.sweeper.params={search: [all,none]}",
            "search is ['all', 'none']; a text is wanted, such as 'all,none'",
        ),
        ("hydra.sweeper.params=search", "a dictionary is wanted"),
        ("hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size: is 0; it should be at least 1"),
        ("hydra/launcher=nope", "Could not find 'hydra/launcher/nope'"),
        ("hydra.verbos=true", "Could not override 'hydra.verbos'"),
        ("+pair=mini-mistral-base", "a pair is chosen without it; pair=mini-mistral-base chooses another"),
        ("search.seed=interval(1,2)", "does not support sweep type"),
        ("~judge", "judge: mandatory key is missing"),
    ],
)
def test_a_word_about_hydra_that_is_wrong_is_one_problem(word: str, said: str) -> None:
    (problem,) = problems("-m", word)
    assert said in problem
    assert "Config search path" not in problem


def test_a_glob_matches_what_can_be_chosen() -> None:
    assert len(jobs(["-m", "pair=glob(*,exclude=own)"])) == len(PAIRS)
    assert {job.config.judge.name for job in jobs(["-m", "judge=glob(*,exclude=c*)"])} >= {"phrases", "guard"}


@pytest.mark.parametrize("word", ["judge={name: phrases}", "++judge.name=phrases", "+experiment=[miniature]"])
def test_other_words_that_hydra_takes(word: str) -> None:
    assert jobs([word])[0].config.judge.name == "phrases"


def test_folders_of_files_may_be_named_as_hydra_does(tmp_path: Path) -> None:
    mine(tmp_path, "record: {experiment: mine}\n")
    (job,) = jobs([f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine"])
    assert job.folder.parent.name == "mine"
    with pytest.raises(DapaError, match=r"hydra\.searchpath: is 3; a list of folders is wanted"):
        jobs(["hydra.searchpath=3"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run", "-m"], "only one of --run, --multirun, --cfg, --info, --shell-completion can be given"),
        (["--cfg", "job", "--multirun"], "only one of"),
        (["--resolve"], "--resolve goes with --cfg or --help"),
    ],
)
def test_flags_that_exclude_each_other(words: list[str], said: str) -> None:
    with pytest.raises(DapaError, match=said):
        jobs(words)


def test_a_config_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(DapaError, match="--config-dir /no/such: no such folder"):
        jobs(["--config-dir", "/no/such", "pair=mine"])


@pytest.mark.parametrize("flag", ["--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun"])
def test_a_flag_that_would_carry_out_another_run_is_refused(flag: str) -> None:
    with pytest.raises(DapaError, match=r"--[a-z]+-[a-z]+ is not taken: .* --config-dir names"):
        jobs([flag, "mine"])


def test_a_sweep_over_options_sets_a_key_that_the_first_option_lacks() -> None:
    """The default transplant has no `base`. A run whose own option lacks the key is a problem, and says what it has."""
    sweep = ["-m", "+experiment=miniature", "pair=mini-llama-small-style", "transplant.base=zoo:llama-small-base"]
    found = jobs([*sweep, "transplant=safe_lora,task_vector"])
    assert [job.config.transplant.model_dump()["base"]["id"] for job in found] == ["zoo:llama-small-base"] * 2
    by_experiment = jobs(["-m", "+experiment=miniature_shadow_comparators", "transplant.base=zoo:mistral-base"])
    assert {job.config.transplant.model_dump()["base"]["id"] for job in by_experiment} == {"zoo:mistral-base"}
    (problem,) = problems(*sweep, "transplant=safe_lora,blend")
    assert problem == "command line: transplant.base: unknown key. Allowed: method, alpha, alphas"


def test_a_run_that_is_asked_for_twice_is_one_run_and_two_runs_need_two_folders() -> None:
    (job,) = jobs(["-m", "granularity=mlp,mlp", "search.seed=1,1"])
    assert job.config.search.seed == 1
    with pytest.raises(DapaError, match="same: two different runs would share this folder"):
        jobs(["-m", "granularity=mlp,layer", "hydra.sweep.subdir=same"])


def test_a_file_may_be_called_like_a_home_folder_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody_here.csv").write_text("goal\nbake a cake\n")
    of = "dataset.harmless"
    (job,) = jobs([f"{of}.source='~nobody_here.csv'", f"{of}.column=goal", f"{of}.rows=[0,1]"])
    (harmless,) = [rows for use, rows in job.config.dataset.sets().items() if use == "harmless"]
    assert [row.text for row in load_rows(harmless)] == ["bake a cake"]
