"""A finished run is carried out again, and the difference is graded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.cli.dispatch import main
from dapa_exp.zoo.build import build
from tests.settings import QUICK


def change(file: Path, *keys: str, by: float) -> None:
    """Change a number in a record."""
    content = json.loads(file.read_text())
    place: Any = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] += by
    file.write_text(json.dumps(content))


def test_a_run_is_reproduced_and_the_difference_graded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(["llama-small-base", "llama-small-chat"], silent)
    assert (
        main(["run", *QUICK, "pair=mini-llama-small-base", "search=all", "record=wandb", f"record.dir={tmp_path}"]) == 0
    )
    (record,) = tmp_path.glob("single/*/record.json")
    alone = tmp_path / "reproduce.json"
    alone.write_text((record.parent / "reproduce.json").read_text())

    def grade(*words: str) -> tuple[int, list[str]]:
        capfd.readouterr()
        code = main(["reproduce", *words])
        return code, capfd.readouterr().out.splitlines()

    out = tmp_path / "reproduced" / record.parent.name
    assert grade(str(record.parent)) == (0, [f"identical: {out}"])
    assert (record.parent / "wandb").is_dir()
    assert not (out / "wandb").exists(), "it would replace the run's own mirror, which has the same id"
    assert grade(str(alone), str(out)) == (0, [f"identical: {out}"])

    change(record, "search", "threshold_dsr", by=1e-9)
    assert grade(str(record.parent)) == (0, [*grade(str(record.parent))[1][:1], f"within numerics: {out}"])
    change(record, "search", "units_total", by=1)
    code, said = grade(str(record.parent))
    assert code == 1
    assert said[-1] == f"different: {out}"
    assert any(line.startswith("search.units_total: ") for line in said)

    words = [
        *QUICK,
        "pair=mini-llama-small-base",
        "search=given",
        f"search.from={record.parent}",
        f"record.dir={tmp_path}",
    ]
    assert main(["run", *words]) == 0
    (given,) = tmp_path.glob("single/*given*")
    shutil.rmtree(out)
    record.parent.rename(out)  # the run whose units were given is elsewhere
    assert grade(str(given), str(tmp_path / "again")) == (0, [f"identical: {tmp_path / 'again'}"])
    assert grade(str(given / "reproduce.json"), str(tmp_path / "again"))[0] == 0
    out.rename(record.parent)

    assert main(["reproduce", str(record.parent), str(record.parent)]) == 2
    assert "this is the run itself" in capfd.readouterr().err
