"""What the documents promise: their links lead somewhere, their lists are complete, their examples work."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from analysis.registry import FIGURES, TABLES
from dapa_exp.base.progress import silent
from dapa_exp.base.registry import Registry
from dapa_exp.cli.compose import jobs
from dapa_exp.config.registries import ALGORITHMS, METHODS, METRICS, PRIORS
from dapa_exp.config.schema import JudgeSettings
from dapa_exp.zoo.build import build
from tests.commands import dapa
from tests.settings import quick

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "multirun" / "README.md"]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", _without_code(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[str]:
    """Every link of a document to a file beside it, or into one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(document)):
        if not re.match(r"[a-z]+:", target):
            yield target


def _without_code(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in links(document):
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_readme_names_every_page() -> None:
    named = set(links(ROOT / "README.md"))
    assert {str(page.relative_to(ROOT)) for page in DOCUMENTS} - {"README.md", "CHANGELOG.md"} <= named


@pytest.mark.parametrize(
    ("page", "registry"),
    [
        ("searching", ALGORITHMS),
        ("searching", PRIORS),
        ("transplanting", METHODS),
        ("judges", JudgeSettings.registry),
        ("data", TABLES),
        ("data", FIGURES),
        ("evaluating", METRICS),
    ],
)
def test_a_page_names_all_that_is_registered(page: str, registry: Registry[object]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in registry.names() if f"| `{name}`" not in text] == []


def commands() -> list[str]:
    """Every `dapa run`, `plan` and `check` of the documents that needs nothing of the reader's own."""
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    lines = re.findall(r"^dapa (?:run|plan|check) ([^#\n]+)", text.replace("\\\n", " "), re.MULTILINE)
    return sorted({line.strip() for line in lines if not re.search(r"\$|my_conf|FOLDER", line)})


@pytest.mark.parametrize("words", commands())
def test_every_command_is_allowed(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("student,teacher\nzoo:mistral-style,zoo:mistral-chat\n")
    assert jobs(shlex.split(words))


@pytest.mark.slow
def test_the_examples_of_plugins_work_together(tmp_path: Path) -> None:
    build(["llama-small-style", "llama-small-chat"], silent)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n# my_conf/(plugins/\w+\.py): [^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_conf" / "plugins").mkdir(parents=True)
    for name, code in blocks:
        (tmp_path / "my_conf" / name).write_text(code)
    chosen = ("search=backwards", "search.prior=last_first", "transplant=scaled", "judge=word", "judge.word=help")
    words = [word for word in quick("pair=mini-llama-small-style", *chosen) if word != "search=ddmin"]
    words += ["evaluate.metrics=[answer_length]"]
    said = dapa(*words, "--config-dir", "my_conf", cwd=tmp_path)
    assert said.code == 0, said.err
    (file,) = tmp_path.glob("multirun/*/*/record.json")
    record = json.loads(file.read_text())
    assert record["search"]["algorithm"] == "backwards"
    assert record["search"]["prior"]["name"] == "last_first"
    assert record["transplant"]["method"] == "scaled"
    assert list(record["provenance"]["judges"]) == ["word"]
    for subject in ("student", "hybrid", "teacher"):
        answers = map(json.loads, (file.parent / "generations" / f"{subject}-harmless.jsonl").read_text().splitlines())
        lengths = [len(answer["completion"].split()) for answer in answers]
        measure = record["evaluate"][subject]["metrics"]["answer_length"]["words"]
        assert (measure["value"], measure["n"]) == (pytest.approx(fmean(lengths)), len(lengths))
    assert "words of a harmless answer" in said.out
    listed = dapa("run", "--help", "--config-dir", "my_conf", cwd=tmp_path).out
    assert re.search(r"^evaluate\.metrics allows: answer_length, change_by_layer, ", listed, re.MULTILINE)
    assert "Units found" in said.out
    assert (file.parent / "report" / "queries.svg").is_file()
