"""Transplant, tune, transplant again: does a hybrid that is tuned further get its refusals back each time?

Each round tunes the hybrid of the round before to answer the search rows as the student did at first. The tuned model
is the student of the round's run, which transplants the set that the first run found. Each round is an ordinary run.

After each transplant the found units are the teacher's, bit for bit. Where only they are tuned, the whole hybrid is the
first one, bit for bit; where only the others are tuned, the transplant changes nothing.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic
from dapa_exp.base.progress import Report
from dapa_exp.config.models import Drifted, Model
from dapa_exp.config.schema import Config
from dapa_exp.config.transplant import Drift
from dapa_exp.engine.make import load_student, load_teacher
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.models.architecture import Part
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.prompts.load import load_rows
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.identity import identity, run_folder
from dapa_exp.record.layout import SweepLayout
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.search.tuning import Example, make_examples, tune
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.methods.tuned import TuningSettings
from dapa_exp.zoo import store

NOT_COPIED = ("*.safetensors", "*.safetensors.index.json", "*.bin", store.MANIFEST)
"""Files that do not go from a student's folder to the tuned one's: weights, and what describes them."""


def drift(config: Config, folder: Path, report: Report) -> list[Record]:
    """Carry out a run, then its rounds, each in a folder beside it. What is finished is only read.

    Raises DapaError if the run finds no set.
    """
    settings = config.drift
    assert settings is not None  # the command line has it
    if config.transplant.method != "copy":
        raise DapaError(f"transplant={config.transplant.method}: dapa drift transplants by copy only")
    if config.record.until:
        raise DapaError("record.until: dapa drift needs whole runs")
    if config.pair.also:
        raise DapaError("pair.also: dapa drift takes one student")
    first = run(config, folder, report)
    found = first.search.units_found
    if not found or first.search.status == "no_gain":
        raise DapaError(f"{folder}: the run found no set to transplant again ({first.search.status})")
    digest = hashlib.sha256(settings.model_dump_json(exclude={"rounds"}).encode()).hexdigest()
    place = SweepLayout(folder.parent).drifts / f"{folder.name}-{settings.tuned}-{digest[:8]}"
    records, before, examples = [first], config, list[Example]()
    for number in range(1, settings.rounds + 1):
        checkpoint = place / f"round-{number:02}"
        if not checkpoint.exists():
            examples = examples or make_relapse(config, settings)
            write_tuned(checkpoint, before, found, settings, examples, number)
        before = _round(config, settings, checkpoint, found, number)
        records.append(run(before, folder.parent / run_folder(before, identity(before)), report))
    return records


def make_relapse(config: Config, settings: Drift) -> list[Example]:
    """The rows of the tuning: search rows and harmless rows with the student's answers, which the hybrid relearns.

    For DPO, the teacher's answers to the search rows are the rejected ones.
    """
    pair, tuning = open_pair(config), _tuning(settings)
    harmful, harmless = load_rows(config.dataset.search), load_rows(tuning.harmless)
    teacher = _answers(load_teacher(config, pair), config, harmful)
    engine = load_student(config, pair)
    student, others = _answers(engine, config, harmful), _answers(engine, config, harmless)
    return make_examples(
        list(zip(harmful, student, teacher, strict=True)), list(zip(harmless, others, strict=True)), tuning.seed
    )


def write_tuned(
    out: Path, config: Config, found: Sequence[str], settings: Drift, examples: Sequence[Example], number: int
) -> None:
    """Write the checkpoint of a run's hybrid after this round's tuning. A tensor that is not tuned keeps its bits."""
    pair = open_pair(config)
    loaded = load_student(config, pair).loaded
    Hybrid(loaded.model, pair).set_units(found)
    parts = _learning(pair, found, settings)
    tuning = _tuning(settings)
    tuning = tuning.model_copy(update={"seed": tuning.seed + number})  # else equal hybrids are tuned to equal students
    learnt, _ = tune(loaded, replace(pair, units={str(part): (part,) for part in parts}), examples, tuning)
    hybrid = HybridTensors(pair, found)
    tensors = {name: hybrid.read(name).clone() for name in hybrid}
    for part in parts:
        part.of(tensors[part.tensor]).copy_(learnt[str(part)])
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as new:
        shutil.copytree(pair.student_folder, new, ignore=shutil.ignore_patterns(*NOT_COPIED))
        save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})


def equal_tensors(config: Config, other: Config, found: Sequence[str]) -> tuple[int, int]:
    """How many tensors of two hybrids with the same units are equal in every bit, and how many there are."""
    one, two = (HybridTensors(open_pair(each), found) for each in (config, other))
    bits = [torch.equal(*(of.read(name).contiguous().view(torch.uint8) for of in (one, two))) for name in one]
    return sum(bits), len(bits)


def _answers(engine: PlainEngine, config: Config, prompts: Sequence[Prompt]) -> list[str]:
    batches = engine.batches(len(prompts))
    said = [engine.generate_batch(prompts[batch.start : batch.stop], config.search.max_new_tokens) for batch in batches]
    return [answer.text for answers in said for answer in answers]


def _learning(pair: Pair, found: Sequence[str], settings: Drift) -> list[Part]:
    """The parts that are tuned."""
    inside = [part for unit in found for part in pair.units[unit]]
    if settings.tuned == "inside":
        return inside
    fixed = {part.tensor for part in inside} if settings.tuned == "outside" else set()
    return [Part(name) for name in pair.student if name not in fixed]


def _tuning(settings: Drift) -> TuningSettings:
    assert isinstance(settings.tuning, TuningSettings)  # checked with the config
    return settings.tuning


def _round(first: Config, settings: Drift, student: Path, found: Sequence[str], number: int) -> Config:
    """The config of a round's run: the set of the first run, transplanted into the tuned model."""
    drifted = Drifted(pair=first.pair.name, rounds=number, tuned=settings.tuned)
    pair = first.pair.model_copy(
        update={
            "name": f"{first.pair.name}-{settings.tuned}-round-{number:02}",
            "student": Model(id=str(student.resolve()), revision=None),
            "allow_unsafe_teacher": True,  # a student that is tuned outside of the found units may be as safe
            "drifted": drifted,
        }
    )
    set_again = {"algorithm": "given", "units": list(found), "from_run": None, "within": None, "prior": None}
    search = first.search.model_copy(update=set_again)
    following = first.model_copy(update={"pair": pair, "search": search})
    equal, total = equal_tensors(first, following, found)
    measured = drifted.model_copy(update={"equal_tensors": equal, "tensors": total})
    return following.model_copy(update={"pair": pair.model_copy(update={"drifted": measured})})
