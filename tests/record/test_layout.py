"""One place names the files of a run's folder, and says the same as the list that a user reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dapa_exp.record import layout
from dapa_exp.record.layout import LocaliseLayout, RunLayout, SweepLayout

ROOT = Path(__file__).parents[2]
NAMES = [*RunLayout.names(), *SweepLayout.names(), *LocaliseLayout.names()]
FOLDERS = {name.rstrip("/").partition("/")[0] for name in NAMES if "/" in name}
FILES = {name for name in NAMES if "/" not in name and not name.startswith(".")}
JOINED = {*FOLDERS, *(name for name in NAMES if name.startswith("."))}
"""What is a name only where it is joined to a path: `report` is a prompt set, too, and `.claim` a suffix."""
SOURCES = [file for top in ("dapa_exp", "analysis", "hydra_plugins") for file in sorted((ROOT / top).rglob("*.py"))]


def written_down(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts that name a file, or are joined to a path as a folder's name, with their lines; docstrings do not count."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            if any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", node.value) for name in FILES):
                yield node.lineno, node.value
            if node.value.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
                yield node.lineno, node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            in_cache = ast.unparse(node.left) == "cache_root()"
            if isinstance(node.right, ast.Constant) and node.right.value in JOINED and not in_cache:
                yield node.lineno, str(node.right.value)


def test_what_is_looked_for_is_found() -> None:
    strays = (
        'folder / "wandb"',
        'f"metrics/{name}.json"',
        'open("record.json")',
        'f"{run}/error.json"',
        'run / ".claim"',
    )
    others = ('"""record.json"""', '"my-record.json"', 'f"{model}.lock"', 'cache_root() / "wandb"', 'sets["report"]')
    assert [len(list(written_down(ast.parse(code)))) for code in strays + others] == [1] * 5 + [0] * 5


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_other_code_names_a_file_of_a_run(file: Path) -> None:
    if file == Path(layout.__file__):
        return
    assert not list(written_down(ast.parse(file.read_text())))


def test_every_file_is_explained_to_the_user() -> None:
    text = (ROOT / "multirun" / "README.md").read_text()
    listed = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(RunLayout.names())
    assert not [name for name in (*SweepLayout.names(), *LocaliseLayout.names()) if f"`{name}" not in text]


def test_names_are_filled_in_and_nothing_is_created(tmp_path: Path) -> None:
    files = RunLayout(tmp_path)
    assert files.completions("hybrid", "report") == tmp_path / "generations" / "hybrid-report.jsonl"
    assert files.completions("search") == tmp_path / "generations" / "search.jsonl"
    assert files.verdicts("hybrid", "report", "phrases") == tmp_path / "metrics" / "hybrid-report-phrases.json"
    assert LocaliseLayout(tmp_path).part("swap-0") == tmp_path / "localise" / "swap-0.json"
    assert not files.is_run()
    assert files.read_queries() == files.read_completions("a", "b") == SweepLayout(tmp_path).read_listing() == []
    assert not list(tmp_path.iterdir())
