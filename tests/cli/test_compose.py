"""Every shipped config composes; every wrong word is answered by one list of what is wrong, where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import OmegaConf

from dapa_exp.base.errors import DapaError
from dapa_exp.cli import composer as module
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.composer import Composer, conf_dir
from dapa_exp.config.problems import ConfigError
from dapa_exp.config.registries import METHODS
from dapa_exp.prompts.rows import load_rows
from dapa_exp.record.identity import identity
from dapa_exp.search import ALGORITHMS, Reduction
from dapa_exp.sweep.job import Job

PAIRS = sorted(p.stem for p in (conf_dir() / "pair").glob("[!_]*.yaml") if p.stem != "own")
OPTIONS = [
    f"{group}={file.stem}"
    for group in ("granularity", "dataset", "search", "transplant", "judge", "evaluate", "record", "runtime")
    for file in sorted((conf_dir() / group).glob("[!_]*.yaml"))
]


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        jobs(words)
    return caught.value.problems


def test_a_flag_may_follow_an_override() -> None:
    words = ["pair=mini-mistral-base", "-m", "search=all,none", "--config-dir", "/tmp", "granularity=layer"]
    assert [job.config.search.algorithm for job in jobs(words)] == ["all", "none"]


def names(found: Sequence[Job]) -> list[str]:
    return [job.config.pair.name for job in found]


def test_internals_are_those_of_the_hydra_that_compose_was_written_against() -> None:
    assert hydra.__version__.startswith("1.3."), (
        "read cli/composer.py, compose.py and launch.py again before allowing another Hydra"
    )


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


def test_a_glob_sweeps_a_family() -> None:
    found = jobs(["-m", "pair=glob(llama2-13b-*)"])
    assert len(found) == 7
    assert {job.config.family.teacher.id for job in found} == {"meta-llama/Llama-2-13b-chat-hf"}


def test_all_problems_are_told_at_once_with_place_and_nearest_name() -> None:
    found = problems("pair=mini-mistal-base", "search.treshold=0.5", "serch=ddmin", "runtime.batch_size=0")
    assert len(found) == 4
    by_start = {problem.split(". ")[0]: problem for problem in found}
    assert "Did you mean 'mini-mistral-base' or " in by_start["command line: pair=mini-mistal-base: no such pair"]
    assert "Did you mean 'threshold'?" in by_start["command line: search.treshold: unknown key"]
    assert "Did you mean 'search'?" in by_start["command line: serch: no such group or key"]
    assert any("command line: runtime.batch_size: is 0; it should be at least 1" in p for p in found)


def test_a_wrong_value_lists_what_is_allowed() -> None:
    (problem,) = problems("runtime.dtype=float23")
    assert "Did you mean 'float32'?" in problem
    assert "Allowed: float32, bfloat16, float16" in problem


def test_true_is_no_number() -> None:
    for key in ("search.seed", "search.threshold", "evaluate.random_repeats", "dataset.search.sample_seed"):
        with pytest.raises(ConfigError, match=rf"{key}: is true; a number is allowed"):
            jobs([f"{key}=true"])


def test_a_list_that_is_too_short_is_told_in_a_sentence() -> None:
    (problem,) = problems("granularity.modules=[]")
    assert problem.endswith("granularity.modules: is []; list should have at least 1 item after validation, not 0")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_a_device_is_one_that_torch_knows(device: str) -> None:
    assert jobs([f"runtime.device={device}"])[0].config.runtime.device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:01", "cpu:cuda", "''"])
def test_no_other_device_is_taken(device: str) -> None:
    (problem,) = problems(f"runtime.device={device}")
    assert f"runtime.device: is '{device.strip(chr(39))}'; allowed: auto, cpu, cuda, cuda:N, mps" in problem
    (problem,) = problems("judge=guard", f"judge.device={device}")
    assert problem.endswith("; allowed: cpu, cuda, cuda:N, mps")


@pytest.mark.parametrize("words", [["device=cuda:1"], ["device=mps"], ["device=cuda", "tensor_parallel=2"]])
def test_vllm_takes_the_devices_that_are_visible(words: list[str]) -> None:
    (problem,) = problems("runtime.engine=vllm", *(f"runtime.{word}" for word in words))
    assert words[0].split("=")[1] in problem
    (problem,) = problems("runtime.tensor_parallel=2")
    assert "tensor_parallel=2 needs engine=vllm" in problem


def test_problems_of_all_runs_of_a_sweep_are_told_before_any_starts() -> None:
    found = problems("-m", "pair=glob(mini-gemma-*)", "search.threshold=0.9,1.5", "evaluate.perplexity_stride=4096")
    assert len(found) == 2
    assert "search.threshold: is 1.5" in found[0] + found[1]
    assert "must be smaller than perplexity_window" in found[0] + found[1]


@pytest.mark.parametrize("word", ["search=null", "prompt_set@dataset.harmless=null"])
def test_a_group_needs_a_choice(word: str) -> None:
    (problem,) = problems(word)
    group = word.split("=")[0].split("@")[0]
    assert problem.startswith(f"command line: {group}=null: no such {group}.")


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


WORDS = [[], *([option, "search.threshold=0.7", "hydra.verbose=true"] for option in OPTIONS)]


def test_what_is_remembered_between_runs_changes_no_config() -> None:
    """Hydra's own loader, which composes each config from its files, finds the same, run after run."""
    composer = Composer()
    plain = ConfigLoaderImpl(composer.get_search_path())
    words = WORDS + [[f"+experiment={file.stem}"] for file in sorted((conf_dir() / "experiment").glob("*.yaml"))]
    for overrides in words + words[::5]:
        expected = plain.load_configuration("config", list(overrides), RunMode.RUN)
        assert OmegaConf.to_yaml(composer.view(overrides, RunMode.RUN)) == OmegaConf.to_yaml(expected), overrides
    own = composer.load_configuration("config", ["search.threshold=0.7"], RunMode.RUN)
    own.search.threshold = 0.1
    assert composer.view(["search.threshold=0.7"], RunMode.RUN).search.threshold == 0.7


def test_which_files_are_chosen_is_found_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[Any]] = []
    find = module.create_defaults_list

    def noted(*asked: Any) -> Any:
        found.append(asked[2])
        return find(*asked)

    monkeypatch.setattr(module, "create_defaults_list", noted)
    planned = jobs(["-m", "granularity=mlp,layer", "search.seed=range(0,6)", "pair=mini-mistral-base"])
    assert [(job.config.granularity.name, job.config.search.seed) for job in planned] == [
        (granularity, seed) for granularity in ("mlp", "layer") for seed in range(6)
    ]
    assert len(found) < 6


def test_a_file_is_read_once_and_a_group_is_merged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = FileConfigSource.load_config

    def noted(self: FileConfigSource, config_path: str) -> ConfigResult:
        read.append(config_path)
        return load(self, config_path)

    monkeypatch.setattr(FileConfigSource, "load_config", noted)
    merged: list[str] = []
    merge = ConfigLoaderImpl._compose_config_from_defaults_list

    def told(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        merged.append(defaults[-1].config_path)
        return merge(self, defaults, repo)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", told)
    found = jobs(["-m", "+experiment=paper17_ablate_projection"])
    assert len(found) == 17 * 6
    assert len(read) == len(set(read))
    assert len(merged) < 17 + 6 + 3 + 20  # pairs, granularities, families, and each other key of the config


def test_a_config_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(DapaError, match="--config-dir /no/such: no such folder"):
        jobs(["--config-dir", "/no/such", "pair=mine"])


@pytest.mark.parametrize("flag", ["--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun"])
def test_a_flag_that_would_carry_out_another_run_is_refused(flag: str) -> None:
    with pytest.raises(DapaError, match=r"--[a-z]+-[a-z]+ is not taken: .* --config-dir names"):
        jobs([flag, "mine"])


def test_a_users_file_is_named_with_its_key(tmp_path: Path) -> None:
    pair = tmp_path / "pair" / "mine.yaml"
    pair.parent.mkdir()
    pair.write_text(
        "defaults:\n  - _default\n  - /family@_global_.family: mistral-7b\n  - _self_\n"
        "name: mine\nstudnet: {id: ./somewhere}\nchat_template: onw\npaper17: false\nreason: mine\n"
    )
    found = problems("--config-dir", str(tmp_path), "pair=mine")
    assert len(found) == 3
    assert any(f"{pair}: pair.studnet: unknown key. Did you mean 'student'?" in p for p in found)
    assert any(f"{pair}: pair.chat_template: is 'onw'. Did you mean 'own'?" in p for p in found)
    assert any("pair.student.id: mandatory key is missing" in p for p in found)


def test_a_mistake_in_a_prompt_set_is_told_with_the_file_of_the_set(tmp_path: Path) -> None:
    file = tmp_path / "prompt_set" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "defaults:\n  - _default\n  - _self_\nsource: ./mine.csv\ncolumn: goal\ncategory_colum: topic\nrows: [0, 9]\n"
    )
    (found,) = problems("--config-dir", str(tmp_path), "prompt_set@dataset.harmless=mine")
    assert f"{file}: dataset.harmless.category_colum: unknown key. Did you mean 'category_column'?" in found


def test_a_methods_own_settings_are_checked_under_their_names() -> None:
    (problem,) = problems("transplant=blend", "transplant.alpha=2")
    assert problem.startswith("command line: transplant.alpha: is 2; it should be at most 1")
    (problem,) = problems("transplant=safe_lora")
    assert "conf/transplant/safe_lora.yaml: transplant: base is null" in problem
    (problem,) = problems("transplant.method=blnd")
    assert "Did you mean 'blend'?" in problem


def test_overlapping_search_and_report_rows_are_refused() -> None:
    (problem,) = problems("dataset.report.rows=[32,96]")
    assert "search rows [0, 64] and report rows [32, 96] of zoo:harmful overlap" in problem
    assert problem.startswith("conf/dataset/miniature.yaml and the command line: ")


@pytest.mark.parametrize("name", ["me/my-mistral", "../up", "..", "''", "a b"])
def test_what_names_a_folder_is_one_folder(name: str) -> None:
    for key in ("pair.name", "granularity.name", "dataset.name"):
        (problem,) = problems(f"{key}={name}")
        assert problem.startswith(f"command line: {key}: is ")
        assert "it names folders" in problem


def test_a_unit_is_named_once_and_a_model_has_a_name() -> None:
    (problem,) = problems("granularity.modules=[mlp,attention,mlp]")
    assert problem == "command line: granularity.modules: names mlp more than once"
    (problem,) = problems("pair.student.id=''")
    assert problem.startswith("command line: pair.student.id: is ''; string should have at least 1 character")


@pytest.mark.parametrize("place", ["''", "'~/results'"])
def test_results_go_neither_to_the_root_nor_to_a_folder_named_tilde(place: str) -> None:
    (problem,) = problems(f"record.dir={place}")
    assert problem.startswith(f"command line: record.dir: is {place}; it must name a folder")


@pytest.mark.parametrize("name", ["report", "text", "reasoning", "perplexity", "kl_to_student", "kl_to_teacher", "jbb"])
def test_a_prompt_set_needs_a_name_of_its_own(name: str) -> None:
    more = ["+prompt_set@dataset.more_report.jbb=jbb", f"+prompt_set@dataset.more_harmless.{name}=xstest"]
    (problem,) = problems(*more)
    assert problem.endswith(f": dataset: '{name}': another prompt set or a metric has this name; choose another")


def test_a_prompt_set_is_named_as_files_and_columns_can_be() -> None:
    (problem,) = problems("+prompt_set@dataset.more_report.a-b=jbb")
    assert "dataset: 'a-b': names files and columns, so it must be of letters, digits and underscores" in problem


def test_golden_identity() -> None:
    """A change here re-runs everybody's sweeps: raise IDENTITY_VERSION if it is meant."""
    (job,) = jobs(["pair=llama2-7b-vicuna-v1.5", "dataset=advbench128"])
    assert job.identity == "9af1a0267730a844a5ef0f0d45fcdea7247136a11c04f71ae568d183e1a2300d"


def test_identity_ignores_place_and_machine_but_not_what_moves_results() -> None:
    base = identity(jobs(["pair=mini-mistral-base"])[0].config)
    same = [
        "record.dir=/elsewhere",
        "record.experiment=other",
        "runtime.device=cuda",
        "runtime.processes=7",
        "record=wandb",
    ]
    for word in same:
        assert identity(jobs(["pair=mini-mistral-base", word])[0].config) == base, word
    for word in ("runtime.dtype=bfloat16", "runtime.batch_size=8", "search.threshold=0.8", "search=all"):
        assert identity(jobs(["pair=mini-mistral-base", word])[0].config) != base, word


def test_the_engine_is_part_of_the_identity_where_it_can_move_results() -> None:
    def identity(*words: str) -> str:
        return jobs(["pair=mini-mistral-base", *(f"runtime.{word}" for word in words)])[0].identity

    levers = ("reuse_memory=1", "drafts=false", "early_verdicts=false", "graphs=true")
    assert {identity(word) for word in ("engine=plain", *levers)} == {identity()}
    below = "dtype=bfloat16"
    assert len({identity(below, word) for word in ("engine=plain", "engine=fast", *levers)}) == 6
    plain = [identity(below, "engine=plain", word) for word in levers]
    assert set(plain) == {identity(below, "engine=plain")}
    assert identity("engine=plain", "cache_memory=3") == identity()
    vllm = [identity("engine=vllm", *word) for word in ((), ("tensor_parallel=2",))]
    assert len({*vllm, identity()}) == 3
    assert identity("engine=vllm", "cache_memory=3") == vllm[0]


def test_identity_of_a_local_checkpoint_changes_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    words = [f"pair.student.id={tmp_path}"]
    before = jobs(words)[0].identity
    (tmp_path / "model.safetensors").write_bytes(b"two!")
    assert jobs(words)[0].identity != before


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


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("runtime.processes=0", "runtime.processes: is 0; allowed: auto, and whole numbers from 1"),
        ("runtime.processes=all", "runtime.processes: is 'all'; allowed: auto, and whole numbers from 1"),
        ("record.experiment=../x", "record.experiment: is '..'; it names folders, so it must be of letters"),
        ("record.experiment=''", "record.experiment: is ''; it names folders, so it must be of letters"),
        ("pair.student.id='zoo:'", "pair.student.id: The zoo has no model ''"),
    ],
)
def test_a_value_that_would_go_elsewhere_is_one_problem(word: str, said: str) -> None:
    with pytest.raises(DapaError) as caught:
        jobs([word])
    lines = str(caught.value).splitlines()
    assert said in lines[-1]
    assert len(lines) <= 2
    assert jobs(["record.experiment=studies/first", "runtime.processes=auto"])


def test_a_blank_system_prompt_is_none() -> None:
    (problem,) = problems("dataset.system_prompt='  '")
    assert problem.startswith("command line: dataset.system_prompt: is '  '")


def test_a_file_may_be_called_like_a_home_folder_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody_here.csv").write_text("goal\nbake a cake\n")
    of = "dataset.harmless"
    (job,) = jobs([f"{of}.source='~nobody_here.csv'", f"{of}.column=goal", f"{of}.rows=[0,1]"])
    (harmless,) = [rows for use, rows in job.config.dataset.sets().items() if use == "harmless"]
    assert [row.text for row in load_rows(harmless)] == ["bake a cake"]
