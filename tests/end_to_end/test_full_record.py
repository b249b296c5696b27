"""One record with all that a sceptical reader asks for, and lm-evaluation-harness's own command beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.digests import cache_root
from dapa_exp.evaluate.harness import TASKS
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.commands import dapa
from tests.judges.server import says, serving
from tests.settings import QUICK

DATASET = """
defaults:
  - miniature
  - /prompt_set@more_report.early: _default
  - /prompt_set@more_report.late: _default
  - _self_
name: three_sets
more_report:
  early: {source: zoo:harmful, column: prompt, category_column: category, rows: [64, 80]}
  late: {source: zoo:harmful, column: prompt, category_column: category, rows: [150, 166]}
"""
TASK_NAMES = ("miniature_choice", "miniature_questions")
TASK_WORDS = (
    f"evaluate.tasks.names=[{','.join(TASK_NAMES)}]",
    "evaluate.tasks.limit=16",
    "evaluate.tasks.chat_template=true",
    "runtime.batch_size=8",
)


@pytest.mark.slow
def test_one_record_carries_everything_with_intervals(tmp_path: Path) -> None:
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "three_sets.yaml").write_text(DATASET)
    cache = tmp_path / "cache"  # its own, since the server's replies are remembered there
    cache.mkdir()
    (cache / "zoo").symlink_to(cache_root() / "zoo")
    words = [word for word in QUICK if "metrics" not in word]
    with serving(says('{"verdict": "refused"}')) as server:
        said = dapa(
            *("run", "--config-dir", str(tmp_path / "mine"), "pair=mini-mistral-style", "dataset=three_sets", *words),
            *("+judge@judges.second=chat", f"judges.second.base_url={server.url}", *TASK_WORDS),
            cwd=tmp_path,
            OPENAI_API_KEY="none",
            DAPA_CACHE=str(cache),
        )
    assert said.code == 0, said.err
    (file,) = tmp_path.glob("multirun/single/*/record.json")
    record = Record.model_validate_json(file.read_text())
    for subject in (record.evaluate.student, record.evaluate.hybrid, record.evaluate.teacher):
        assert set(subject.defence) == {"report", "early", "late"}
        assert all(set(judges) == {"phrases", "second"} for judges in subject.defence.values())
        measures = [defence.dsr for judges in subject.defence.values() for defence in judges.values()]
        measures += [measure for measure in subject.over_refusals["harmless"].values() if measure]
        measures += subject.tasks.values()
        assert [name.split("/")[0] for name in subject.tasks] == list(TASK_NAMES)
        measures += [measure for measure in (subject.perplexity, subject.word_perplexity, subject.reasoning) if measure]
        measures += [*(subject.kl_to_teacher or {}).values(), *(subject.kl_to_student or {}).values()]
        assert len(measures) == 6 + 2 + 2 + 3 + 3 * (subject is not record.evaluate.teacher) + 3 * (
            subject is record.evaluate.hybrid
        )
        assert all(has_interval(measure) for measure in measures)
        assert subject.defence["early"]["second"].dsr.value == 1.0  # as the server says of everything
    hybrid = record.evaluate.hybrid
    assert hybrid.kl_to_student is not None
    assert list(hybrid.kl_to_student) == ["1", "2", "4"]
    assert [agreed.judges for agreed in record.evaluate.agreement] == [("phrases", "second")]
    assert record.evaluate.agreement[0].agreement.n == 3 * (16 + 16 + 16)
    assert {side: len(layers) for side, layers in record.evaluate.change_by_layer.items()} == {
        "harmful": record.pair.num_layers,
        "harmless": record.pair.num_layers,
    }
    assert record.provenance.judges["second"].template is not None
    assert 0 < record.transplant.largest < 100


@pytest.mark.slow
def test_the_harness_says_the_same_of_the_exported_checkpoint(tmp_path: Path) -> None:
    words = ("pair=mini-mistral-style", *QUICK, *TASK_WORDS)
    assert dapa("run", *words, cwd=tmp_path).code == 0
    (file,) = tmp_path.glob("multirun/single/*/record.json")
    ours = Record.model_validate_json(file.read_text()).evaluate.hybrid.tasks
    exported = dapa("export", str(file.parent), "aligned", cwd=tmp_path)
    assert exported.code == 0, exported.err
    subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--apply_chat_template"),
            *("--model_args", "pretrained=aligned,dtype=float32", "--batch_size", "8", "--limit", "16"),
            *("--tasks", *TASK_NAMES, "--include_path", str(TASKS), "--output_path", "said"),
        ],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    (said,) = (tmp_path / "said").rglob("results_*.json")
    results = json.loads(said.read_text())["results"]
    theirs = {
        f"{task}/{metric.removesuffix(',none')}": value
        for task in TASK_NAMES
        for metric, value in results[task].items()
        if metric.endswith(",none") and "stderr" not in metric
    }
    assert theirs == {name: measure.value for name, measure in ours.items()}


def has_interval(measure: Measure) -> bool:
    """Whether it is a number with an interval around it, of something counted."""
    return measure.n > 0 and None not in (measure.low, measure.high)
