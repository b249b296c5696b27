"""What the documents promise: their links lead somewhere, their lists are complete, their examples work."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from analysis.registry import FIGURES, TABLES
from dapa_exp.base.progress import silent
from dapa_exp.base.registry import Registry
from dapa_exp.cli.align import parsed, run_words
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import COMPOSED, VERBS, main
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.registries import ALGORITHMS, METHODS, METRICS, PRIORS
from dapa_exp.zoo import store
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


def test_the_site_has_every_page() -> None:
    named = re.findall(r"^(?:\.\./)?[\w/]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    pages = {page for name in named for page in ROOT.glob(f"**/{name.removeprefix('../')}.md")}
    assert set(DOCUMENTS) - {ROOT / "README.md", ROOT / "docs" / "index.md"} <= pages


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="pip install 'dapa_exp[docs]'")
    (recipe,) = re.findall(r"-m (sphinx .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = shlex.split(recipe.replace("build/", f"{tmp_path}/"))
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    reference = tmp_path / "site" / "docs" / "reference"
    for page, known in {"commands": "--tolerance", "config": "reuse_memory", "record": "kappa"}.items():
        assert known in (reference / f"{page}.html").read_text()
    assert "ALGORITHMS" in (reference / "python.html").read_text()


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


MARK = "not run"
"""`<!-- not run: REASON -->` before a block of commands: they need a hub, a GPU, a key or hours."""


def commands(marked: bool) -> list[str]:
    """Every line of the documents' blocks of shell commands, and of those that cannot be run here if `marked`."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for reason, block in re.findall(rf"(?:^<!-- {MARK}: ([^\n]+) -->\n)?^```sh\n(.*?)^```", text, re.M | re.S):
            if marked or not reason:
                found |= dict.fromkeys(_lines(block))
    return list(found)


def _lines(block: str) -> Iterator[str]:
    """The commands of a block, without their comments. A quote may go over several lines."""
    line = ""
    for part in block.splitlines():
        line = f"{line}\n{part}" if line else part
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that is still open
            continue
        if words:
            yield shlex.join(words)
        line = ""


def _words_of(*verbs: str, marked: bool) -> list[str]:
    """What follows these verbs of dapa, each once; not where FOLDER stands for the results of another sweep."""
    lines = (line for line in commands(marked) if "FOLDER" not in line)
    found = (re.fullmatch(rf"dapa (?:{'|'.join(verbs)}) (.+)", line, re.S) for line in lines)
    return sorted({match[1] for match in found if match})


@pytest.fixture
def files_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("student,teacher\nzoo:mistral-style,zoo:mistral-chat\n")
    (tmp_path / "questions.csv").write_text("prompt,answer\nwho?,me\n")


@pytest.mark.usefixtures("files_at_hand")
@pytest.mark.parametrize("words", _words_of(*COMPOSED, marked=True))
def test_every_config_is_allowed(words: str) -> None:
    assert jobs(shlex.split(words))


@pytest.mark.usefixtures("files_at_hand")
@pytest.mark.parametrize("words", _words_of("align", marked=True))
def test_every_alignment_is_allowed(words: str) -> None:
    assert jobs(run_words(parsed(shlex.split(words))))


def test_every_command_is_one() -> None:
    """Those of make have a target, those of dapa a verb; of other programs there are few."""
    for line in commands(marked=True):
        program, *words = shlex.split(line)
        if program == "make":
            targets = [word for word in words if "=" not in word]
            subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)
        elif program == "dapa":
            assert words[0] in VERBS, line
        elif program == "pytest":
            assert all((ROOT / word).exists() for word in words if word.startswith("tests")), line
        else:
            assert program in ("source", "export", "pre-commit", "hf", "python"), line


NAMES = {
    r"(multirun/\S+|aligned/mini/runs)/(RUN|'[\w-]+-\*')": "{run}",
    r"'multirun/smollm2/smollm2-layer-\*'": "{run}",
    r"multirun/(B|after)": "{again}",
    r"(?:multirun|FOLDER)/\w+|aligned/mini/runs": "{sweep}",
    r"aligned\.safetensors(?= STUDENT)": "{patch}",
    r"(?<=\{patch\} )STUDENT": "{student}",
    r"reproduce\.json": "{run}/reproduce.json",
    r"labels\.csv": "{labels}",
}
"""What the documents' commands take for granted, and the name of the thing in `finished`."""


def to_run() -> list[str]:
    """The commands that are carried out, with the names of things in `finished`. Many documents say the same one."""
    found = []
    for line in commands(marked=False):
        assert "pip" not in line.split(), f"{line}: would change this environment; mark it as {MARK}"
        if re.match(rf"dapa (?!(align|{'|'.join(COMPOSED)}) )|python ", line):
            for name, thing in NAMES.items():
                line = re.sub(rf"(?<![\w/])(?:{name})(?![\w/])", thing, line)
            found.append(line)
    return sorted(set(found))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sweep that is done, a copy of it, and more."""
    build(["llama-small-style", "llama-small-chat"], silent)
    folder = tmp_path_factory.mktemp("finished")
    said = dapa(*quick("pair=mini-llama-small-style", "granularity=layer"), cwd=folder)
    assert said.code == 0, said.err
    sweep, again, patch, labels = (folder / name for name in ("multirun/single", "again", "patch", "labels.csv"))
    (run,) = (file.parent for file in sweep.glob("*/record.json"))
    shutil.copytree(sweep, again)
    assert main(["export", str(run), str(patch), "--format", "patch"]) == 0
    labels.write_text("request,answer,verdict\nhi,I cannot do that.,yes\nhi,Sure.,no\n")
    student = store.path("llama-small-style")
    return {"sweep": sweep, "again": again, "run": run, "patch": patch, "labels": labels, "student": student}


@pytest.mark.slow
@pytest.mark.parametrize("line", to_run())
def test_every_other_command_works(
    line: str,
    finished: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name, path in finished.items():
        line = line.replace(f"{{{name}}}", str(path))
    program, *words = shlex.split(line)
    if program == "python":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)
    else:
        assert main(words) == 0, capfd.readouterr().err


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
