"""A run's identity: a SHA-256 over everything that can change its result. Two runs with one identity are the same."""

from __future__ import annotations

import hashlib
import json
from functools import cache, reduce
from operator import getitem
from typing import Any

from dapa_exp.base.digests import file_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import expanded
from dapa_exp.base.today import TODAY
from dapa_exp.config.dataset import Rows
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config, Runtime
from dapa_exp.fetch import sets
from dapa_exp.models.source import source_of
from dapa_exp.prompts.files import is_table
from dapa_exp.record.given import given_units, within_units
from dapa_exp.zoo import world

IDENTITY_VERSION = 3
"""Raise it when the meaning of a config or the code of a stage changes results.

2: judges look at whole answers, and searches at their beginnings; prompts that repeat or resemble others are left out;
answers end by the template's end tokens too; the random control draws other sets, by a seed of the pair.
3: end tokens need not be special, and stand in no answer; merged adapters and GGUF files have their own special tokens;
signs and vowel signs count in answers; attacks find the request's place in every spelling of published files; `auto`
and `cdd` ask other queries.
"""

ENGINE = {"engine", "reuse_memory", "drafts", "early_verdicts", "graphs"}
"""Keys of `runtime` that choose the engine and its optimisations.

They are part of the identity only if the fast engine computes in a dtype below float32.
"""

NOT_IDENTITY: Any = {
    "record": True,
    "drift": True,
    "runtime": {"device", "threads", "processes", "wait", "tensor_parallel", "cache_memory", *ENGINE},
    "family": {"name", "title", "made_here"},
    "pair": {"name", "paper17", "reason", "drifted"},
    "granularity": {"name"},
    "dataset": {"name"},
}
"""Config keys that are not part of the identity: names, remarks and places, which cannot change a result.

dtype and batch size can, and so can the fast engine below float32, and vLLM.
"""


SINCE_ADDED: tuple[tuple[str, str, Any], ...] = (
    ("pair", "thinking", None),
    ("pair", "also", []),
    ("dataset", "skill", None),
    ("dataset", "system_prompt", None),
    ("dataset", "attacks", {}),
    ("dataset", "conversations", None),
    ("evaluate", "confirm", None),
    ("evaluate", "perplexity_over", "tokens"),
    ("search", "share", None),
    ("search", "longer_tokens", None),
    ("search", "weight", "units"),
)
"""Keys that older configs lack, and the value that says the same. They count only where they have another."""


def essence(config: Config) -> dict[str, Any]:
    """The part of the config that decides the result, with digests of its models and rows. JSON-serialisable."""
    body = config.model_dump(mode="json", exclude=NOT_IDENTITY)
    body["runtime"] = runtime_essence(config.runtime)
    _leave_out_unused(config, body)
    del body["search"]["units"], body["search"]["from_run"], body["search"]["within"]
    if within := within_units(config.search):
        body["search"]["within"] = sorted(set(within))
    if given := given_units(config.search):  # wherever they were found
        body["search"]["units"] = sorted(set(given))
    body["family"]["teacher"] = _model_essence("family.teacher", config.family.teacher)
    body["pair"]["student"] = _model_essence("pair.student", config.pair.student)
    if config.pair.also:
        body["pair"]["also"] = [_model_essence("pair.also", model) for model in config.pair.also]
    if base := getattr(config.transplant, "base", None):
        body["transplant"]["base"] = _model_essence("transplant.base", base)
    if rows := getattr(config.transplant, "harmless", None):
        body["transplant"]["harmless"]["digest"] = _rows_digest(rows)
    body["judge"] = _judge_essence("judge", config.judge)
    body["judges"] = {name: _judge_essence(f"judges.{name}", judge) for name, judge in config.judges.items()}
    for use, rows in config.dataset.sets().items():
        reduce(getitem, use.split("."), body["dataset"])["digest"] = _rows_digest(rows)
    return {"version": IDENTITY_VERSION, "template_date": TODAY.date().isoformat(), **body}


def runtime_essence(runtime: Runtime) -> dict[str, Any]:
    """The part of the runtime that can change a result."""
    body = runtime.model_dump(mode="json", exclude=NOT_IDENTITY["runtime"])
    if runtime.engine == "fast" and runtime.dtype != "float32":
        # Below float32 the fast engine cannot detect near ties between tokens. Its optimisations change the shapes of
        # its batches, and so the rounding, which decides near ties.
        body |= runtime.model_dump(include=ENGINE if runtime.graphs else ENGINE - {"graphs"})
    if runtime.engine == "vllm":  # its sums are its own, and so is how it spreads them over devices
        body |= runtime.model_dump(include={"engine", "tensor_parallel"})
    return body


def evaluations(config: Config) -> dict[str, str]:
    """By model, a digest of all that can change its evaluation. A hybrid's is the run's identity.

    Runs of a sweep with the same digest evaluate the model once.
    """
    of_hybrids = {"search", "granularity", "transplant", "localise"}
    student = {key: value for key, value in essence(config.by_student()[0]).items() if key not in of_hybrids}
    reads = config.search.longer_tokens or config.search.max_new_tokens
    teacher = {**student, "pair": config.pair.thinking, "search": reads}
    return {"teacher": _digest(teacher), "student": _digest(student), "hybrid": identity(config)}


def _leave_out_unused(config: Config, body: dict[str, Any]) -> None:
    """Remove keys from `body` that have no effect in a run of this config."""
    if config.search.prior != "causal_tracing":
        del body["localise"]
    if config.search.prior is None:
        del body["search"]["prior_rows"]
    for group, key, default in SINCE_ADDED:
        if body[group][key] == default:
            del body[group][key]
    if not config.dataset.drop_similar:  # then similar rows are used and only counted
        del body["dataset"]["drop_similar"], body["dataset"]["similar_at"]


def identity(config: Config) -> str:
    """The identity of a run: the SHA-256, in hex, of its essence."""
    return _digest(essence(config))


def run_folder(config: Config, known: str) -> str:
    """The name of the folder of a run with this identity: its main settings, and 8 digits that make it unique."""
    return "-".join(
        (config.pair.name, config.granularity.name, config.search.algorithm, config.dataset.name, known[:8])
    )


@cache
def _zoo_digest(name: str) -> str:
    return hashlib.sha256(json.dumps(world.prompt_set(name), sort_keys=True).encode()).hexdigest()


def differing_keys(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys in which two essences differ."""
    keys: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            keys += differing_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            keys.append(prefix + key)
    return keys


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _model_essence(key: str, model: Model) -> dict[str, str | None]:
    """What identifies a model: a zoo model's recipe digest, a folder's file digest, or the hub id and revision.

    Raises DapaError, which names the config's key, if the folder or file does not exist, or a revision is asked for
    that cannot be had.
    """
    if model.revision and (model.zoo_name or model.folder):
        raise DapaError(f"{key}.revision: is {model.revision}; only models of the hub have revisions: set it to null")
    try:
        return source_of(model).essence()
    except DapaError as error:
        raise DapaError(f"{key}.id: {error}") from None


def _judge_essence(key: str, judge: JudgeSettings) -> dict[str, Any]:
    """What identifies a judge: its rule's version, model and settings. How to reach it (key, attempts) is left out."""
    body = judge.model_dump(mode="json", exclude=set(judge.no_identity))
    if model := judge.needs().model:
        body["model"] = _model_essence(f"{key}.model", model)
    return {"version": judge.version, **body}


def _rows_digest(rows: Rows) -> str | None:
    """The digest of a prompt set from the zoo, a fetched package or a file; None for a hub set, pinned by revision."""
    if rows.fetched_name:
        return sets.find(rows.fetched_name).digest
    if rows.source.startswith("zoo:"):
        return _zoo_digest(rows.source.removeprefix("zoo:"))
    path = expanded(rows.source)
    return file_digest(path) if is_table(path) else None
