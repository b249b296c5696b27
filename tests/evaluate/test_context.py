"""Prompts that leave no room for their answers: an error before any weight is read, and no answer without meaning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.config.schema import Config
from dapa_exp.localise.localise import localise
from dapa_exp.run import run
from dapa_exp.zoo import store
from dapa_exp.zoo.build import build
from tests.settings import quick_config


def limited(folder: Path, reads: int, of: str) -> Config:
    """A quick run whose student or teacher reads so many tokens, and whose weights are not there."""
    build(["mistral-style", "mistral-chat"], silent)
    ids = {}
    for role, name in (("student", "mistral-style"), ("teacher", "mistral-chat")):
        ids[role] = Path(shutil.copytree(store.path(name), folder / role))
    file = ids[of] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": reads}))
    words = (f"pair.student.id={ids['student']}", f"family.teacher.id={ids['teacher']}", "search.max_new_tokens=8")
    return quick_config("pair=mini-mistral-style", *words)


@pytest.mark.parametrize("of", ["teacher", "student"])
def test_a_prompt_whose_answer_would_outgrow_the_context_is_named_with_the_limit(tmp_path: Path, of: str) -> None:
    config = limited(tmp_path, 40, of)
    with pytest.raises(DapaError) as caught:
        run(config, tmp_path / "run", silent)
    first, *_ = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path / of}: report: 16 of 16 prompts")
    assert f"an answer of evaluate.max_new_tokens={config.evaluate.max_new_tokens} tokens" in first
    assert "and the model reads 40 (max_position_embeddings)" in first
    assert not list((tmp_path / "run").rglob("generations/*"))


def test_a_localisation_answers_within_the_context_too(tmp_path: Path) -> None:
    config = limited(tmp_path, 20, "student")
    with pytest.raises(DapaError, match=r"student: search: \d+ of 16 prompts .* search\.max_new_tokens=8 tokens"):
        localise(config, tmp_path / "run", silent)
