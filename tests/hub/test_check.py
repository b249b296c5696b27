"""`dapa check` against a hub: all that stands in the way of a run is said, in a sentence each, before it starts."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import main
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.hub import fetch
from dapa_exp.preflight.findings import find_problems, look
from dapa_exp.zoo import store
from tests.hub.look_alike import Files, Hub, files_of
from tests.judges import planted
from tests.tiny import tiny_checkpoint
from tests.transplant.finished import sharded

Check = Callable[..., tuple[int, list[str], str]]
MODELS = ("family.teacher.id=some/teacher", "pair.student.id=some/student")
DATA = "dataset.search.source=some/prompts"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(sharded(tmp_path_factory.mktemp("teacher"), "llama", 1))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(sharded(tmp_path_factory.mktemp("student"), "llama", 2))


@pytest.fixture
def served(hub: Hub, teacher: Files, student: Files) -> Hub:
    """A pair that fits and a data set."""
    hub.add("some/teacher", teacher)
    hub.add("some/student", student)
    hub.add("datasets/some/prompts", {"train.jsonl": b'{"prompt": "hello"}\n'})
    return hub


@pytest.fixture
def check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Check:
    """Run `dapa check`; returns its exit code, the problems, and everything that it printed."""

    def run(*words: str) -> tuple[int, list[str], str]:
        capfd.readouterr()
        code = main(["check", *words, f"record.dir={tmp_path}"])
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        start = "problem: "
        return code, [line.removeprefix(start) for line in said.out.splitlines() if line.startswith(start)], said.out

    return run


@cache
def composed() -> Config:
    """A run of the served pair on the served prompts."""
    return jobs([*MODELS, DATA])[0].config


def problems(**student: object) -> list[str]:
    """What stands in the way of that run, with some values of `pair.student` changed."""
    pair = composed().pair
    changed = pair.model_copy(update={"student": pair.student.model_copy(update=student)})
    return problems_of(composed().model_copy(update={"pair": changed}))


def problems_of(*configs: Config) -> list[str]:
    return list(find_problems(configs, look(configs, silent)))


def changed(files: Files, name: str, **values: object) -> Files:
    return {**files, name: json.dumps({**json.loads(files[name]), **values}).encode()}


def test_a_pair_that_is_all_there(served: Hub, check: Check) -> None:
    code, found, said = check(*MODELS, DATA)
    assert (code, found) == (0, [])
    assert "no problem found" in said
    (row,) = (line.split() for line in said.splitlines() if line.split()[:1] == ["mini-llama-small-style"])
    assert row[1:7] == ["ok", "ok", "ok", "yes", "yes", "3"]


def test_only_configs_are_fetched_and_each_model_is_asked_for_once(served: Hub, tmp_path: Path) -> None:
    assert problems_of(composed(), composed(), composed()) == []
    fetched = sorted(path.rpartition("/")[2] for path in served.downloads())
    assert fetched == 2 * ["chat_template.jinja"] + 2 * ["config.json"]
    assert len([path for _, path, _ in served.asked if path.startswith("api/models/some/teacher")]) == 1
    assert not (tmp_path / "cache").exists()


def test_everything_that_is_missing_is_named_at_once(served: Hub) -> None:
    del served.repositories["some/student"]
    served.repositories["some/teacher"].tokens = {"right"}
    served.repositories["datasets/some/prompts"].tokens = {"right"}
    dataset = composed().dataset
    too_many = dataset.model_copy(update={"report": dataset.report.model_copy(update={"rows": (96, 100_000)})})
    assert problems_of(composed().model_copy(update={"dataset": too_many})) == [
        f"some/teacher: gated: accept its licence at {served.url}/some/teacher and log in (hf auth login)",
        f"some/student: not on the hub ({served.url}/some/student), or private and no token is set",
        f"some/prompts: gated: accept its licence at {served.url}/datasets/some/prompts and log in (hf auth login)",
        "zoo:harmful: rows 96-100000 asked for, but it has 360",
    ]


def test_a_token_that_is_refused(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.repositories["some/teacher"].tokens = {"right"}
    monkeypatch.setenv("HF_TOKEN", "wrong")
    (problem,) = problems()
    assert problem == (
        f"some/teacher: gated: accept its licence at {served.url}/some/teacher"
        " with the account of the token that is set"
    )
    monkeypatch.setenv("HF_TOKEN", "right")
    assert problems() == []


def test_a_pair_that_does_not_fit(served: Hub, check: Check, student: Files) -> None:
    served.add("some/student", changed(student, "config.json", num_hidden_layers=4, intermediate_size=32))
    code, found, said = check(*MODELS)
    assert code == 1
    assert said.split("mini-llama-small-style")[1].split()[3] == "no"
    assert [problem.partition(": teacher and student do not fit: ")[2] for problem in found] == [
        "num_hidden_layers: teacher 3, student 4; intermediate_size: teacher 24, student 32"
    ]


def test_an_unknown_architecture_is_named_with_its_model(served: Hub, student: Files) -> None:
    served.add("some/student", changed(student, "config.json", model_type="lama"))
    (problem,) = problems()
    assert problem.startswith("some/student: model_type 'lama' is not known. Did you mean 'llama'?")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no talks') }}", "the chat template does not take its turns: no talks"),
        ("{{ 1 + messages[0].content }}", "the chat template does not take its turns: unsupported operand"),
        ("how are you?", "the chat template leaves out what the user's turn says"),
    ],
)
def test_a_chat_template_that_does_not_do_is_said_before_a_run(
    served: Hub, student: Files, template: str, said: str
) -> None:
    served.add("some/student", {**student, "chat_template.jinja": template.encode()})
    (problem,) = problems()
    assert problem.startswith(f"some/student: {said}")


def test_several_chat_templates_without_a_default_are_said_before_a_run(served: Hub, student: Files) -> None:
    bare = {name: content for name, content in student.items() if name != "chat_template.jinja"}
    several = [{"name": name, "template": "{{ messages[0].content }}"} for name in ("rag", "tool_use")]
    served.add("some/student", changed(bare, "tokenizer_config.json", chat_template=several))
    (problem,) = problems()
    assert problem.startswith("some/student: the tokenizer has several chat templates (rag, tool_use) and none called")


def test_a_guard_whose_template_leaves_the_talk_out_is_said_before_a_run(check: Check, tmp_path: Path) -> None:
    folder = planted.guard(tmp_path / "guard")
    words = ("judge=guard", f"judge.model.id={folder}")
    assert check(*words)[1] == []
    (folder / "chat_template.jinja").write_text("is this safe?")
    assert check(*words)[1] == [f"judge guard: {folder}: the chat template leaves out what the user's turn says"]


def test_rows_that_are_left_out_are_said_before_a_run(check: Check, tmp_path: Path) -> None:
    for name, goals in {"search": ["rob a bank"], "report": ["Rob a bank!", "poison a well", "poison a well"]}.items():
        (tmp_path / f"{name}.csv").write_text("prompt,category\n" + "".join(f"{goal},x\n" for goal in goals))
    words = [f"dataset.{use}.{key}" for use in ("search", "report") for key in (f"source={tmp_path}/{use}.csv",)]
    code, found, said = check(*words, "dataset.search.rows=[0,1]", "dataset.report.rows=[0,3]")
    assert (code, found) == (0, [])
    assert (
        "note: miniature: report: 2 of 3 rows are dropped (1 repeat an earlier row; 1 are search rows too); 1 are used"
        in said
    )
    code, found, _ = check(*words, "dataset.search.rows=[0,1]", "dataset.report.rows=[0,1]")
    assert code == 1
    assert found == ["miniature: every report prompt is also a search prompt; nothing is left to report on"]


def test_a_missing_chat_template_is_named_with_the_way_out(served: Hub, student: Files) -> None:
    bare = {name: content for name, content in student.items() if name != "chat_template.jinja"}
    served.add("some/student", changed(bare, "tokenizer_config.json", chat_template=None))
    (problem,) = problems()
    assert problem == (
        "some/student: the tokenizer has no chat template; pair.chat_template=teacher uses the teacher's"
    )
    pair = composed().pair.model_copy(update={"chat_template": "teacher"})
    assert problems_of(composed().model_copy(update={"pair": pair})) == []


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "some/base"}


def adapter(**values: object) -> Files:
    return {"adapter_config.json": json.dumps({**ADAPTER, **values}).encode(), "adapter_model.safetensors": b"weights"}


def test_an_adapter_is_looked_at_with_the_base_that_it_is_merged_into(served: Hub, student: Files) -> None:
    served.add("some/student", adapter())
    assert problems() == [
        f"some/student: its base: some/base: not on the hub ({served.url}/some/base), or private and no token is set"
        " (adapter_config.json names it in base_model_name_or_path)"
    ]
    served.add("some/base", changed(student, "config.json", intermediate_size=32))
    assert any("do not fit" in problem for problem in problems())
    served.add("some/base", student)
    assert problems() == []
    served.add("some/student", adapter(peft_type="IA3"))
    assert problems() == ["some/student: an adapter of type IA3; only LORA can be merged"]
    served.add(
        "some/student", {"adapter_config.json": adapter()["adapter_config.json"], "adapter_model.bin": b"pickled"}
    )
    assert problems() == ["some/student: no adapter_model.safetensors (pickled weights are not read)"]


def test_an_adapter_on_this_machine_is_looked_at_with_its_base(served: Hub, tmp_path: Path, student: Files) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in adapter().items():
        (folder / name).write_bytes(content)
    (problem,) = problems(id=str(folder))
    assert problem.startswith(f"{folder}: its base: some/base: not on the hub")
    served.add("some/base", student)
    assert problems(id=str(folder)) == []


def test_pickled_weights_need_to_be_allowed(served: Hub, student: Files) -> None:
    pickled = {name: content for name, content in student.items() if "safetensors" not in name}
    served.add("some/student", {**pickled, "pytorch_model.bin": b"never read"})
    (problem,) = problems()
    assert "pytorch_model.bin only" in problem
    assert "pair.student.allow_pickle=true" in problem
    assert problems(allow_pickle=True) == []


def test_a_missing_revision(served: Hub) -> None:
    (problem,) = problems(revision="v9")
    assert problem == "some/student@v9: the repository has no such revision"


def test_a_silent_hub_costs_seconds(served: Hub) -> None:
    served.stalls.add("api/models/some/student")
    started = time.monotonic()
    (problem,) = problems()
    assert "cannot be reached (ReadTimeout" in problem
    assert time.monotonic() - started < 20


def test_a_shard_that_a_folder_lacks(served: Hub, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "student", "llama", 1)
    sorted(folder.glob("*.safetensors"))[0].unlink()
    (problem,) = problems(id=str(folder))
    assert f"{folder}: 1 of" in problem
    assert "shards are missing: model-00001-of" in problem


def test_a_folder_that_is_no_checkpoint(served: Hub, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (problem,) = problems(id=str(tmp_path / "student"))
    assert problem == f"{tmp_path}/student: no config.json there, so no checkpoint"
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / "student" / name).touch()
    (problem,) = problems(id=str(tmp_path / "student"))
    assert "holds 2 GGUF files; name one" in problem


def test_a_folder_beside_an_id_is_told_how_to_be_named(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mystudent").mkdir()
    (problem,) = problems(id="mystudent")
    assert problem.endswith(". There is a folder mystudent here, which is named ./mystudent")
    with pytest.raises(DapaError, match=r"which is named \./mystudent"):
        locate(Model(id="mystudent", revision=None), weights=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert problems(id="mystudent")[-1] == (
        "mystudent: not asked for. There is a folder mystudent here, which is named ./mystudent"
    )


def test_a_pairs_differences_are_noted_and_are_no_problem(served: Hub, tmp_path: Path, check: Check) -> None:
    teacher, student = (sharded(tmp_path / name, "llama", seed) for seed, name in enumerate(("teacher", "student")))
    file = student / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "float16"}))
    code, found, said = check(f"family.teacher.id={teacher}", f"pair.student.id={student}")
    assert (code, found) == (0, [])
    notes = [line for line in said.splitlines() if line.startswith("note: mini-llama-small-style: ")]
    assert notes[0].endswith("dtype: teacher float32, student float16")
    assert re.search(r"weights: cosine -?0\.\d\d on average of 8 matrices; .* do not stem from one model", notes[1])


def test_a_checkpoint_that_is_not_whole_is_a_problem(served: Hub, tmp_path: Path, student: Files) -> None:
    folder = tmp_path / "student"
    tiny_checkpoint(folder, "llama", 1)
    (problem,) = problems(id=str(folder))
    assert problem.startswith(f"{folder}: no tokenizer there")
    served.add("some/student", {name: content for name, content in student.items() if name != "tokenizer.json"})
    assert [problem for problem in problems() if "no tokenizer there" in problem]
    file = folder / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    (problem,) = problems(id=str(folder))
    assert "Every name begins with 'module.'" in problem
    (problem,) = problems(id="some/student/q4-00001-of-00002.gguf")
    assert "one of 2 parts of a model" in problem


def test_a_judge_without_its_key(check: Check, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    _, (problem,), _ = check("judge=chat")
    assert problem == "judge chat: the environment variable OPENAI_API_KEY, which is to hold the key, is not set"
    assert check("judge=chat", "judge.base_url=http://localhost:8000/v1")[:2] == (0, [])


def test_extras_that_are_not_installed(check: Check, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("judgezoo", "lm_eval", "lm_eval.tasks"):
        monkeypatch.setitem(sys.modules, package, None)
    _, found, _ = check("judge=judgezoo", "evaluate.tasks.names=[fetched_mmlu,miniature_choice]")
    judge, tasks = found
    assert judge.endswith("it is not installed; pip install 'dapa_exp[judgezoo]'")
    assert tasks.startswith("evaluate.tasks needs lm-evaluation-harness: pip install dapa_exp[lm_eval]")


@pytest.mark.slow
def test_every_unknown_task_is_named(check: Check, hub: Hub) -> None:
    code, found, _ = check("evaluate.tasks.names=[mmul,arc_easy,gsmk8,miniature_choice]")
    assert code == 1
    assert [problem.partition(": the harness has no ")[2] for problem in found] == [
        "task 'mmul'. Did you mean 'mmlu'?",
        "task 'gsmk8'. Did you mean 'gsm8k'?",
    ]


def test_a_judges_model_may_be_of_any_architecture(served: Hub) -> None:
    judge = jobs(["judge=classifier", "judge.model.id=some/judge"])[0].config.judge
    config = composed().model_copy(update={"judge": judge})
    (problem,) = problems_of(config)
    assert problem.startswith("some/judge: not on the hub")
    served.add("some/judge", {"config.json": b'{"model_type": "roberta"}'})
    assert problems_of(config) == []


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there(
    check: Check, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device == "cuda:1"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    judge = f"+judges.other={{name: guard, model: {{id: {tmp_path}, revision: null}}, device: '{device}',"
    _, found, _ = check(f"runtime.device={device}", judge + " dtype: float32, batch_size: 1}")
    assert found == [
        f"runtime.device={device}: there is no such device here; runtime=cpu computes without one",
        f"judge guard: device={device}: there is no such device here",
    ]


@pytest.mark.slow
def test_without_a_network_sizes_and_fit_are_told_all_the_same(
    check: Check, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    code, found, said = check("-m", "+experiment=paper17")
    assert time.monotonic() - started < 60
    assert code == 1
    rows = [line for line in said.splitlines() if line.split()[1:2] == ["unknown"]]
    assert len(rows) == 17
    assert all(re.search(r" (18|28|32|40) +~\d+ +~?[\d.]+ GB +~?[\d.]+ GB", row) for row in rows)
    assert len([row for row in rows if "by facts" in row]) == 7
    (unreached,) = (problem for problem in found if "cannot be reached" in problem)
    assert "so these could not be asked for: meta-llama/Llama-2-7b-chat-hf, meta-llama/Llama-2-7b-hf" in unreached
    sizes = dict(line.split(": about ") for line in said.splitlines() if line.startswith("models to download"))
    assert 330 < float(sizes["models to download"].split()[0]) < 345  # 22 models: each teacher once


def test_what_is_cached_needs_no_hub(served: Hub, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("some/teacher", "some/student"):
        locate(Model(id=name, revision=None), weights=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    served.asked.clear()
    config = composed()
    dataset = config.dataset.model_copy(update={"search": config.dataset.report})
    assert problems_of(config.model_copy(update={"dataset": dataset})) == []
    assert served.asked == []


def test_of_the_gguf_files_of_a_repository_only_the_cached_one_needs_no_hub(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.add("some/student", {"q4.gguf": b"GGUF", "q8.gguf": b"GGUF"})
    fetch("some/student", None, ["q4.gguf"], silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (cached,), (not_cached,) = (problems(id=f"some/student/{name}.gguf") for name in ("q4", "q8"))
    assert cached.endswith("so these could not be asked for: some/teacher, some/prompts")
    assert not_cached.endswith("so these could not be asked for: some/teacher, some/student/q8.gguf, some/prompts")


def test_a_repository_of_gguf_files_only_is_told_to_name_one(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.add("some/student", {"q4.gguf": b"GGUF", "README.md": b""})
    (problem,) = problems()
    assert problem.endswith("so no checkpoint; of its GGUF files name one, such as some/student/q4.gguf")
    fetch("some/student", None, ["q4.gguf"], silent)  # what lies in the cache by chance is not what is meant
    with pytest.raises(DapaError, match=r"name one, such as some/student/q4\.gguf"):
        locate(Model(id="some/student", revision=None), weights=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "some/student" in problems()[0]


def test_a_miniature_that_is_not_built_yet_is_no_problem(
    check: Check, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "empty"))
    assert not store.is_built("llama-small-chat")
    code, found, said = check("pair=mini-llama-small-style")
    assert (code, found) == (0, [])
    assert "not counted" not in said, "what its recipe says of it counts"


def test_a_set_that_is_not_fetched_yet_is_no_problem(
    check: Check, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "empty"))
    code, found, said = check("pair=smollm2", "dataset=smollm2")
    assert (code, found) == (0, [])
    (row,) = (line.split() for line in said.splitlines() if line.split()[:1] == ["smollm2"])
    assert row[1:4] == ["ok", "ok", "ok"]


def test_a_file_of_a_kind_that_is_not_read_is_not_looked_for_on_the_hub(check: Check, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text("[]")
    code, (problem,), _ = check(f"dataset.search.source={tmp_path / 'prompts.json'}")
    assert code == 1
    assert problem.endswith("prompts.json: only .csv, .jsonl and .parquet files are read")
