from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dapa_exp.base.progress import display
from dapa_exp.cli.dispatch import main
from dapa_exp.zoo.build import build
from tests.commands import Said

MODELS = (
    *("llama-small-base", "llama-small-chat", "llama-small-planted", "llama-small-style"),
    *("mistral-base", "mistral-chat", "mistral-planted"),
    *("gemma-small-base", "gemma-small-chat", "gemma-small-planted"),
)


@pytest.fixture(scope="session", autouse=True)
def zoo() -> None:
    """The miniature models, built once in the user's cache."""
    with display() as report:
        build(MODELS, report)


@pytest.fixture
def here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`dapa` in this process, which saves the seconds of importing torch; results go to the test's folder."""

    def run(*words: str) -> Said:
        capfd.readouterr()
        placed = any(word.startswith("record.dir=") for word in words)
        try:
            code = main([*words, *([] if placed else [f"record.dir={tmp_path}"])])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    return run
