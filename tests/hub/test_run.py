"""Runs whose pair and prompts come from a hub: one clear error where it fails, else what the same files give here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.cli.dispatch import main
from dapa_exp.zoo import store, world
from dapa_exp.zoo.build import build
from tests.commands import Said, dapa
from tests.hub.look_alike import Hub, files_of
from tests.settings import quick
from tests.transplant.finished import sharded

MODELS = ("family.teacher.id=some/teacher", "pair.student.id=some/student")
WEIGHTS = "model.safetensors"


@pytest.fixture
def tiny(hub: Hub, tmp_path: Path) -> Hub:
    """An untrained pair of several shards."""
    for seed, name in enumerate(("teacher", "student")):
        hub.add(f"some/{name}", files_of(sharded(tmp_path / name, "llama", seed)))
    return hub


def shard(hub: Hub) -> str:
    (files,) = hub.repositories["some/student"].commits.values()
    return sorted(name for name in files if name.endswith(".safetensors"))[1]


def gone(hub: Hub) -> str:
    del hub.repositories["some/student"]
    return f"some/student: not on the hub ({hub.url}/some/student), or private and no token is set"


def gated(hub: Hub) -> str:
    hub.repositories["some/teacher"].tokens = {"right"}
    return f"some/teacher: gated: accept its licence at {hub.url}/some/teacher and log in (hf auth login)"


def other_bytes(hub: Hub) -> str:
    name = shard(hub)
    (files,) = hub.repositories["some/student"].commits.values()
    hub.lies[name] = files[name][:-1] + b"?"
    return f"{name}: not what the hub says it is (another SHA-256)"


def incomplete(hub: Hub) -> str:
    name = shard(hub)
    (files,) = hub.repositories["some/student"].commits.values()
    del files[name]
    return f"shards are missing: {name}"


@pytest.mark.parametrize("fault", [gone, gated, other_bytes, incomplete])
def test_a_run_that_cannot_be_had_says_why(
    tiny: Hub, fault: Callable[[Hub], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    why = fault(tiny)
    with pytest.raises(SystemExit) as ended:
        main([*quick(*MODELS), f"record.dir={tmp_path}"])
    said = Said(int(ended.value.code or 0), *capfd.readouterr())
    assert why in said.complaint
    assert "HTTP Request" not in said.out + said.err
    (error,) = tmp_path.glob("single/*/error.json")
    assert why in json.loads(error.read_text())["message"]


def test_a_run_does_not_go_on_with_weights_that_the_hub_has_got_meanwhile(
    hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a revision, the identity is the same: its queries would be of one student, its record of another."""
    build(["llama-small-chat", "llama-small-style"], silent)
    first, later = (files_of(store.path(f"llama-small-{name}")) for name in ("style", "chat"))
    hub.add("some/teacher", later)
    hub.add("some/student", first)
    words = [*quick("pair=mini-llama-small-style", "search=all", *MODELS), f"record.dir={tmp_path}"]
    assert main([*words, "record.until=search"]) == 0
    hub.add("some/student", first, later)
    with pytest.raises(SystemExit):
        main(words)
    assert "the run began with another student (SHA-256 in inputs.json)" in capfd.readouterr().err
    hub.add("some/student", first)
    assert main(words) == 0


@pytest.mark.slow
def test_a_broken_download_costs_no_more_than_the_same_command_again(hub: Hub, tmp_path: Path) -> None:
    """In processes of their own, which know the hub by their environment alone."""
    build(["llama-small-chat", "llama-small-style"], silent)
    hub.add("some/teacher", files_of(store.path("llama-small-chat")))
    hub.add("some/student", files_of(store.path("llama-small-style")))
    rows = "".join(json.dumps(row) + "\n" for row in world.prompt_set("harmful"))
    hub.add("datasets/some/prompts", {"train.jsonl": rows.encode()})
    words = quick("pair=mini-llama-small-style", "search=all", "evaluate.random_repeats=0")
    prompts = ("dataset.search.source=some/prompts", "dataset.report.source=some/prompts")

    def run() -> Said:
        return dapa(*words, *MODELS, *prompts, cwd=tmp_path, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))

    hub.breaks[WEIGHTS] = [10**9, 100_000, *[0] * 20]  # the teacher's come, the student's do not
    assert "cannot be reached" in run().complaint
    assert not list(tmp_path.glob("multirun/single/*/record.json"))

    hub.breaks.clear()
    hub.asked.clear()
    said = run()
    assert said.code == 0, said.err
    assert [path for path in hub.downloads() if path.endswith(WEIGHTS)] == [
        path for path in hub.downloads() if "some/student" in path and path.endswith(WEIGHTS)
    ]

    assert main([*words, f"record.dir={tmp_path}/here"]) == 0
    ours, local = record(tmp_path / "multirun"), record(tmp_path / "here")
    assert ours["search"]["everything_dsr"] == local["search"]["everything_dsr"]
    assert ours["evaluate"] == local["evaluate"]


def record(folder: Path) -> dict[str, Any]:
    """What the one run in a folder found."""
    (file,) = folder.glob("single/*/record.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content
