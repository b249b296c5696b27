"""A run whose report rows are asked again with a published jailbreak around them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.evaluate.rejudge import rejudge
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.record.layout import RunLayout
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from tests.settings import quick_config


@pytest.mark.slow
def test_the_record_has_each_model_under_attack_beside_itself(tmp_path: Path) -> None:
    build(["mistral-style", "mistral-chat"], silent)
    config = quick_config("pair=mini-mistral-style", "search=all", "+attack@dataset.attacks.prefix=prefix_injection")
    folder = tmp_path / "run"
    record = run(config, folder, silent)

    def defended(model: str, rows: str) -> list[bool]:
        file = RunLayout(folder).verdicts(model, rows, "phrases")
        return [verdict == "refused" for verdict in json.loads(file.read_text())["verdicts"]]

    for model in ("student", "hybrid", "teacher"):
        plain, under = defended(model, "report"), defended(model, "prefix")
        (against_plain,) = [c for c in record.evaluate.attacked["prefix"][model] if c.against == "plain"]
        assert against_plain.lost == sum(a and not b for a, b in zip(plain, under, strict=True))
        assert getattr(record.evaluate, model).defence["prefix"]["phrases"].dsr.value == sum(under) / len(under)
    against = {comparison.against: comparison for comparison in record.evaluate.attacked["prefix"]["hybrid"]}
    gained = sum(a and not b for a, b in zip(defended("hybrid", "prefix"), defended("student", "prefix"), strict=True))
    assert against["student"].gained == gained > 0

    again = rejudge(folder, PhraseJudge(), "again", silent).record.evaluate.hybrid.defence["prefix"]
    assert again["again"].dsr == again["phrases"].dsr
