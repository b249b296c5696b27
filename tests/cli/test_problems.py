"""Every wrong word is answered by one list of what is wrong, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.config.problems import ConfigError
from tests.settings import problems


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


def test_a_metric_is_named_once() -> None:
    (problem,) = problems("evaluate.metrics=[perplexity,perplexity]")
    assert "evaluate.metrics: perplexity is named twice" in problem


def test_a_blank_system_prompt_is_none() -> None:
    (problem,) = problems("dataset.system_prompt='  '")
    assert problem.startswith("command line: dataset.system_prompt: is '  '")
