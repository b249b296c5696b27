from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from glob import glob
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.mirror import mirror_command
from dapa_exp.record import mirror as mirroring
from dapa_exp.record.journal import Journal
from dapa_exp.record.layout import QueryLine
from dapa_exp.record.mirror import Destination, flatten, is_mirrored, mirror, mirror_all
from dapa_exp.record.status import status
from tests.analysis.factory import COMPLETION, name_of, query, record, write_failure, write_run, write_sweep
from tests.mirrored import sent, steps_of, summary_of


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another home, cache and working folder, so that stray files are seen."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(home)
    return home


def offline(folder: Path) -> bool:
    return mirror(folder, Destination("offline", "dapa", None))


def test_the_run_holds_the_record_and_a_step_a_query(tmp_path: Path, somewhere_else: Path) -> None:
    done = record("a", hybrid=0.925, queries=17)
    bar = {"threshold_dsr": 0.1 + 0.2 + 0.3}  # a rounding error above 0.6
    folder = write_run(tmp_path, done.model_copy(update={"search": done.search.model_copy(update=bar)}))
    assert offline(folder)
    messages = sent(folder)

    (run,) = (m.run for m in messages if m.HasField("run"))
    assert (run.run_id, run.project, run.run_group) == (record("a").identity[:16], "dapa", "miniature")
    assert (run.display_name, run.job_type) == (folder.name, "mlp ddmin")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["pair"] == {"name": "a"}

    steps = steps_of(messages)
    assert [step["search/query/score"] for step in steps] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert [step["search/query/passed"] for step in steps] == [False, False, False, True, True]
    assert [step["_step"] for step in steps] == list(range(5))
    assert steps[3]["search/query/units"] == 2
    assert steps[3]["search/query/label"] == "subset 3"

    summary = summary_of(messages)
    assert summary["evaluate/hybrid/dsr/value"] == 0.925
    assert summary["search/ledger/queries"] == 17
    assert summary["search/units_found"] == 2
    assert summary["search/status"] == "certified"
    assert summary["evaluate/comparisons/student/p_value"] == 1e-9

    tables = {file.name.partition("_")[0]: json.loads(file.read_text()) for file in folder.rglob("*.table.json")}
    rows = {
        name: [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] for name, table in tables.items()
    }
    assert [row["label"] for row in rows["queries"]] == [f"subset {number}" for number in range(5)]
    assert [row["passed"] for row in rows["queries"]] == [False, False, False, True, True]
    assert {row["unit"] for row in rows["units"] if row["found"]} == {"layers.0.mlp", "layers.1.mlp"}

    assert list(somewhere_else.rglob("*")) == []
    assert not any(name.startswith("WANDB_") and "DIR" in name for name in os.environ)


def test_no_query_is_lost_whatever_prompts_are_called(tmp_path: Path) -> None:
    folder = write_run(tmp_path, record())
    (folder / "search.jsonl").unlink()
    Journal(folder / "search.jsonl", QueryLine).append({**query(0, 2), "verdicts": {"a\u2028b": "refused"}})
    assert offline(folder)
    assert sum(message.HasField("history") for message in sent(folder)) == 1


def test_no_completion_is_sent(tmp_path: Path) -> None:
    folder = write_run(tmp_path, record())
    offline(folder)
    files = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert all(COMPLETION.encode() not in path.read_bytes() for path in files)


def test_a_record_is_sent_once_and_a_changed_one_replaces_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path, record())

    def done(project: str = "dapa") -> bool:
        return is_mirrored(folder, Destination("offline", project, None))

    assert not done()
    assert offline(folder)
    assert done()
    assert not done(project="another")
    assert not offline(folder)
    (folder / "record.json").write_text(record(hybrid=0.5).model_dump_json())
    assert not done()
    assert offline(folder)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1
    assert not offline(folder)


def test_a_sweep_is_mirrored_without_its_unfinished_runs(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [record("a"), record("b")], [record("c")])
    write_failure(sweep, record("c"), "boom")
    assert mirror_all(sweep, Destination("offline", "dapa", None)) == (2, 0, 1, ())
    write_run(sweep, record("d"))
    assert mirror_all(sweep, Destination("offline", "dapa", None)) == (1, 2, 1, ())
    messages = sent(sweep)
    assert [(m.run.run_group, m.run.job_type) for m in messages if m.HasField("run")] == [("miniature", "sweep")]
    (table,) = (json.loads(file.read_text()) for file in (sweep / "wandb").rglob("*.table.json"))
    assert sorted(pd.DataFrame(**table)["pair"]) == ["a", "b", "d"]
    assert status(sweep)[0].path.parent == sweep


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", [record("a")], [record("b")])
    assert mirror_command([str(sweep)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"1 mirrored (offline), 0 mirrored before, 1 not finished (dapa status {sweep})"
    assert said[1].startswith("to send them: wandb sync ")
    assert len(glob(said[1].removeprefix("to send them: wandb sync "))) == 1
    (run,) = (file.parent for file in sweep.glob("*/record.json"))
    assert mirror_command([str(run)]) == 0
    (command,) = capsys.readouterr().out.splitlines()[1:]
    assert len(glob(command.removeprefix("to send them: wandb sync "))) == 1


def test_a_run_that_cannot_be_sent_does_not_keep_the_others_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "sweep", [record("a"), record("b"), record("c")])
    bad = sorted(sweep.glob("*/record.json"))[0].parent
    (bad / "wandb").write_text("a file where a folder should be")
    assert mirror_command([str(sweep)]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "2 mirrored (offline), 0 mirrored before, 1 failed"
    assert said.err.count("error: ") == 1
    assert f"error: {bad}: " in said.err


def test_an_unfinished_run_is_not_mirrored(tmp_path: Path) -> None:
    folder = write_failure(tmp_path, record(), "boom")
    with pytest.raises(DapaError, match="only finished runs are mirrored, and this one is failed"):
        offline(folder)


def test_a_failure_of_wandb_is_one_clear_error_and_leaves_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path, record())
    with pytest.raises(DapaError, match=r"Weights & Biases \(online\) failed: .*key"):
        mirror(folder, Destination("online", "dapa", None))
    assert (folder / "record.json").is_file()
    assert not (folder / "wandb" / "mirrored.json").exists()
    assert offline(folder)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server at which nobody listens: given up after a second."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")


def kept(folder: Path) -> dict[Path, bytes]:
    """What is mirrored, without the logs of the package's service, which goes on writing them."""
    files = [path for path in (folder / "wandb").rglob("*") if path.is_file() and "logs" not in path.parts]
    return {path: path.read_bytes() for path in files}


def test_a_failed_online_mirror_leaves_the_offline_copy_that_was_not_sent_yet(
    tmp_path: Path, unreachable: None
) -> None:
    folder = write_run(tmp_path, record())
    assert offline(folder)
    before = kept(folder)
    with pytest.raises(DapaError, match=r"Weights & Biases \(online\) failed: .*connection refused") as caught:
        mirror(folder, Destination("online", "dapa", None))
    assert "\n" not in str(caught.value)
    after = kept(folder)
    why = after.pop(folder / "wandb" / "failed.json")
    assert after == before
    assert "connection refused" in (status(folder)[0].unsent or "")
    assert b"connection refused" in why
    assert not offline(folder)
    (folder / "record.json").write_text(record(hybrid=0.5).model_dump_json())
    assert offline(folder)
    assert status(folder)[0].unsent is None


def test_offline_copies_of_a_parallel_sweep_are_whole_and_apart_though_an_online_attempt_failed(
    tmp_path: Path, unreachable: None
) -> None:
    runs = [record(f"pair-{number}", identity=f"{number}" * 64, hybrid=number / 10) for number in range(6)]
    sweep = write_sweep(tmp_path, runs)
    folders = [sweep / name_of(run) for run in runs]
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:  # as the runs of a sweep: each mirrors itself
        assert all(pool.map(offline, folders))
    assert len(mirror_all(sweep, Destination("online", "dapa", None)).failed) == 6
    for run, folder in zip(runs, folders, strict=True):
        messages = sent(folder)
        assert [message.run.run_id for message in messages if message.HasField("run")] == [run.identity[:16]]
        assert summary_of(messages)["evaluate/hybrid/dsr/value"] == run.evaluate.hybrid.dsr.value
        assert len(steps_of(messages)) == 5
        assert any(message.HasField("exit") for message in messages), "the file is cut off"


def test_a_copy_that_is_gone_is_made_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path, record())
    assert offline(folder)
    (copy,) = folder.glob("wandb/offline-run-*")
    shutil.rmtree(copy)
    assert offline(folder)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1


def test_a_damaged_query_is_an_error_and_not_a_missing_step(tmp_path: Path) -> None:
    folder = write_run(tmp_path, record())
    trace = folder / "search.jsonl"
    trace.write_bytes(trace.read_bytes().replace(b"\n", b"\xff\n", 1))
    with pytest.raises(DapaError, match=r"^\S+search\.jsonl, line 1: damaged"):
        offline(folder)


def test_importing_the_mirror_does_not_import_wandb() -> None:
    assert "wandb" not in vars(mirroring)


def test_flatten_names_every_number_by_its_place() -> None:
    flat = flatten(record(percent=6.26))
    assert flat["transplant/percent"] == 6.26
    assert flat["cost/search/tokens"] == 8000
    assert flat["evaluate/random/dsr"] == 2
    assert "evaluate/hybrid/kl_to_student" not in flat


def test_a_run_of_a_sweep_leaves_no_temporary_files_of_its_mirror(tmp_path: Path) -> None:
    """Its process is a child that a fork server ends by os._exit."""
    folder, temporary = write_run(tmp_path, record()), tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "import sys; from multiprocessing import get_context; from pathlib import Path\n"
        "from dapa_exp.record.mirror import Destination, mirror\n"
        "to = Destination('offline', 'dapa', None)\n"
        "child = get_context('fork').Process(target=mirror, args=(Path(sys.argv[1]), to))\n"
        "child.start(); child.join(); sys.exit(child.exitcode)"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)
    assert is_mirrored(folder, Destination("offline", "dapa", None))
    assert list(temporary.iterdir()) == []
