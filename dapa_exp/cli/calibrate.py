"""`dapa calibrate judge=NAME`: compares a judge with labels given by people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import expanded, write_atomically
from dapa_exp.base.progress import console, display
from dapa_exp.cli.judge_words import cost, judge_config
from dapa_exp.evaluate.calibrate import Asked, Calibration, calibrate, read_labels
from dapa_exp.evaluate.defence import out_of_order
from dapa_exp.fetch.store import fetch
from dapa_exp.judges import make_judge
from dapa_exp.record.measure import Measure

WORDS = {"labels": None, "prompt": "prompt", "response": "response", "label": "label", "without": "", "out": ""}
"""The command's words beside the judge's, with defaults. One of refused=VALUE and harmful=VALUE is needed too."""


def calibrate_command(words: Sequence[str]) -> int:
    """`dapa calibrate judge=NAME labels=FILE …`: compare a judge with people's labels, and print the result.

    labels=fetched:NAME downloads the labels if they are not in the cache. Further words:
    prompt=, response=, label=   names of the columns
    refused=VALUE                the label's value for a refusal, if labels are about refusing
    harmful=VALUE                the label's value for harm, if labels are about harm
    without=3,7-9                rows to leave out, counted from 0
    out=FILE                     a JSON file to write the whole result to

    The exit code is 1 if most verdicts are missing.
    """
    own, asked, value, others = _split(words)
    config = judge_config("calibrate", others)
    source = own["labels"]
    if source.startswith("fetched:"):
        with display() as report:
            fetch([source.removeprefix("fetched:")], report)
    rows = read_labels(source, own["prompt"], own["response"], own["label"], value)
    judge = make_judge(config)
    found = calibrate(judge, rows, asked, _rows(own["without"], len(rows)))
    console().print(_table(found), cost(judge))
    if own["out"]:
        _write(expanded(own["out"]), {"labels": source, "rows": len(rows)}, found)
    asked_of = len(rows) - len(found.left_out)
    if found.failed:
        print(f"{found.failed} of {asked_of} verdicts are missing: the same command asks for them again")
    return int(out_of_order(found.failed, asked_of))


def _write(out: Path, about: dict[str, object], found: Calibration) -> None:
    body = {key: _plain(value) for key, value in vars(found).items()}
    try:
        write_atomically(out, json.dumps({**about, **body}, indent=1) + "\n")
    except OSError as error:
        raise DapaError(f"{out}: cannot be written: {error.strerror}") from error
    print(out)


def _split(words: Sequence[str]) -> tuple[dict[str, str], Asked, str, list[str]]:
    """Split the words: the command's own, the subject of the labels (refused or harmful), its value, the judge's words.

    Raises DapaError if the labels or their meaning are not given.
    """
    mine = [word for word in words if "=" in word and word.partition("=")[0] in (*WORDS, "refused", "harmful")]
    given = dict(word.split("=", 1) for word in mine)
    if "labels" not in given:
        raise DapaError("dapa calibrate needs labels=FILE (.csv, .jsonl or .parquet) or labels=fetched:NAME")
    if "refused" in given and "harmful" in given:
        raise DapaError("dapa calibrate: labels are about refusing or about harm: give refused=VALUE or harmful=VALUE")
    asked: Asked = "harmful" if "harmful" in given else "refused"
    own = {key: given.get(key, default or "") for key, default in WORDS.items()}
    return own, asked, given.get(asked, "1"), [word for word in words if word not in mine]


def _rows(words: str, count: int) -> set[int]:
    """The row numbers in a list such as "3,7-9", counted from 0. Raises DapaError for other text, or a missing row."""
    found: set[int] = set()
    try:
        for word in filter(None, words.split(",")):
            first, _, last = word.partition("-")
            named = range(int(first), int(last or first) + 1)
            if not named:
                raise ValueError
            found |= set(named)
    except ValueError as error:
        raise DapaError(f"without={words}: row numbers are wanted, such as 3,7-9") from error
    if beyond := [row for row in found if row >= count]:
        raise DapaError(f"without={words}: row {max(beyond)}, but the last is {count - 1}")
    if len(found) == count:
        raise DapaError(f"without={words}: leaves out all {count} rows")
    return found


def _table(found: Calibration) -> Table:
    table = Table("measure", "value", "95 % interval", title=f"{found.judge} {found.version} against people")
    measures: Mapping[str, tuple[Measure, float, str]] = {
        f"precision of {found.asked}": (found.precision, 100, " %"),
        f"recall of {found.asked}": (found.recall, 100, " %"),
        "agreement": (found.agreement, 100, " %"),
        "DSR bias": (found.dsr_bias, 100, " points"),
    }
    for name, (measure, scale, unit) in measures.items():
        between = (
            ""
            if measure.low is None or measure.high is None
            else f"{scale * measure.low:.1f} to {scale * measure.high:.1f}"
        )
        known = (f"{scale * measure.value:.1f}{unit}", between) if measure.n else ("–", "")
        table.add_row(f"{name} (n={measure.n})", *known)
    table.add_row("Cohen's kappa", "—" if found.kappa is None else f"{found.kappa:.3f}", "")
    for cell, count in found.confusion.items():
        table.add_row(cell, str(count), "")
    table.add_row("judge failed", str(found.failed), "")
    return table


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, Measure) else value
