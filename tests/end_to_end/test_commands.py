"""What a user sees of a run and of a sweep, from a checkout and from a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from dapa_exp.record.schema import Record
from tests.analysis.factory import query
from tests.commands import Said, dapa
from tests.mirrored import sent, steps_of, summary_of
from tests.settings import quick

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_single_run_prints_its_table_and_leaves_nothing_it_needs_no_more(tmp_path: Path) -> None:
    said = dapa("run", "pair=mini-llama-small-style", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "mini-llama-small-style" in said.out
    assert "DSR hybrid" in said.out
    assert "paper" in said.out
    assert "mini-llama-small-style mlp auto: search: " in said.err
    assert "mini-llama-small-style mlp auto: evaluate hybrid: 6/6" in said.err
    (file,) = tmp_path.glob("multirun/single/*/record.json")
    subject = Record.model_validate_json(file.read_text()).evaluate.hybrid
    assert None not in (subject.over_refusal, subject.perplexity, subject.reasoning, subject.kl_to_student)
    assert not (file.parent / "references").exists()


@pytest.mark.slow
def test_a_sweep_prints_the_tables_of_what_it_was_asked_for(here: Callable[..., Said], tmp_path: Path) -> None:
    assert here(*quick("pair=mini-llama-small-style", "search=all")).code == 0
    said = here(*quick("pair=mini-llama-small-base", "-m", "search=all,none"))
    assert said.code == 0, said.err
    assert "2 of 2 runs done." in said.out
    assert "mini-llama-small-style" not in said.out


@pytest.mark.slow
def test_a_sweep_is_mirrored_to_wandb_without_a_network_finished_runs_too(tmp_path: Path) -> None:
    assert dapa(*quick("pair=mini-llama-small-base"), cwd=tmp_path).code == 0
    nowhere = "http://127.0.0.1:9"
    words = quick("-m", "pair=mini-llama-small-base,mini-llama-small-style", "record=wandb")
    said = dapa(*words, cwd=tmp_path, WANDB_BASE_URL=nowhere, HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere)
    assert said.code == 0, said.err
    assert "runs: 2/2" in said.err
    runs = [file.parent for file in tmp_path.glob("multirun/single/*/record.json")]
    assert len(runs) == 2
    for run in runs:
        assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1
        lines = [json.loads(line) for line in (run / "search.jsonl").read_text().splitlines()]
        assert {tuple(line) for line in lines} == {tuple(query(0, 1))}, "what the mirror is tested with"
        record = Record.model_validate_json((run / "record.json").read_text())
        messages = sent(run)
        assert [step["search/query/score"] for step in steps_of(messages)] == [line["score"] for line in lines]
        assert summary_of(messages)["evaluate/hybrid/dsr/value"] == record.evaluate.hybrid.dsr.value
        assert [m.run.run_id for m in messages if m.HasField("run")] == [record.identity[:16]]
    assert not (tmp_path / "wandb").exists()


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dapa_exp-*.whl")
    place = tmp_path / "installed"
    venv.create(place)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # Its dependencies are ours. A path in a .pth file leads to packages, not to further .pth files, so
    # the checkout, which is installed by one, is not found.
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def run(*command: str) -> Said:
        alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([*command], cwd=tmp_path, capture_output=True, text=True, timeout=200, env=alone)
        return Said(done.returncode, done.stdout, done.stderr)

    where = run(str(python), "-c", "import dapa_exp, analysis, hydra_plugins.isolated_launcher as h; print(h.__file__)")
    assert str(site) in where.out, where.err
    planned = run(str(place / "bin" / "dapa"), "plan", "-m", "+experiment=miniature")
    assert planned.code == 0, planned.err
    assert planned.out.count("mini-") == 17
    said = run(str(place / "bin" / "dapa"), *quick("-m", "pair=mini-llama-small-base"))
    assert said.code == 0, said.err
    assert "DSR hybrid" in said.out
