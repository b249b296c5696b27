"""Finished runs on tiny checkpoints: everything is real but the search and the numbers, which are planted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.assemble import _model
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.record.folder import open_run
from dapa_exp.record.identity import identity
from dapa_exp.record.schema import PairRecord
from dapa_exp.transplant.apply import transplant
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.make_method import make_method
from dapa_exp.transplant.methods.contract import Sources
from tests.analysis import factory
from tests.tiny import tiny_loaded, tiny_model


def sharded(folder: Path, family: str, seed: int, dtype: torch.dtype = torch.float32, **changed: int) -> Path:
    """A tiny checkpoint in several shards, with a tokenizer and a generation config, as one downloads it."""
    tokenizer = tiny_loaded(family, seed).tokenizer
    model: Any = tiny_model(family, seed, **{"vocab_size": len(tokenizer), **changed})
    model.to(dtype).save_pretrained(folder, max_shard_size="8KB")
    tokenizer.save_pretrained(folder)
    return folder


def config_of(teacher: Path, student: Path, *words: str, family: str = "llama") -> Config:
    """The config of a run on two folders."""
    models = [f"family.teacher.id={teacher}", f"pair.student.id={student}", f"family.model_type={family}"]
    return jobs([*models, *words])[0].config


def finish(folder: Path, config: Config, chosen: Sequence[str]) -> Path:
    """Carry out the transplant of a run that found these units, and write down the rest as if it had been measured."""
    with open_run(folder, config) as run:
        pair = open_pair(config)
        dtype = getattr(torch, config.runtime.dtype)
        model = AutoModelForCausalLM.from_pretrained(pair.student_folder, dtype=dtype)
        method = make_method(config.transplant, pair)
        method.prepare(run.path, planted_sources(pair))
        moved = transplant(run, Hybrid(model, pair, method), pair, chosen)
        planted = factory.record(units_found=list(chosen), identity=identity(config))
        run.finish(planted.model_copy(update={"transplant": moved, "pair": _pair(config, pair, planted.pair)}))
    return folder


def planted_sources(pair: Pair) -> Sources:
    """Of a student that is said to be tuned: every entry has grown by 0.01. There is no model to attribute by."""
    parts = [part for parts in pair.units.values() for part in parts]
    return Sources(lambda axes: {}, lambda settings: {str(part): pair.student.read(part) + 0.01 for part in parts})


def _pair(config: Config, pair: Pair, planted: PairRecord) -> PairRecord:
    models = {
        "teacher": _model(config.family.teacher, pair.teacher_folder, pair.teacher),
        "student": _model(config.pair.student, pair.student_folder, pair.student),
    }
    return planted.model_copy(update={**models, "chat_template": pair.chat_template})
