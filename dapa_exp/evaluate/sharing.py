"""What the results of a teacher or student depend on, so that the runs of a sweep can share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from dapa_exp.config.schema import Config
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.models.checkpoint import checkpoint_digest
from dapa_exp.models.pair import Pair
from dapa_exp.models.pair_templates import template_date
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.identity import IDENTITY_VERSION, runtime_essence
from dapa_exp.record.provenance import git_commit, platform_name, versions
from dapa_exp.record.shared import Format, Key

TENSORS: Format[dict[str, Tensor]] = Format(
    lambda tensors: save({name: tensor.contiguous() for name, tensor in tensors.items()}), load
)


class EvaluatedModel:
    """A model to be measured. It is loaded as soon as something has to be computed with it."""

    def __init__(self, name: str, load: Callable[[], PlainEngine]) -> None:
        """`name` is what the run's folder calls it."""
        self.name = name
        self._load = load

    @classmethod
    def loaded(cls, name: str, engine: PlainEngine) -> EvaluatedModel:
        """The model that is in the engine."""
        model = cls(name, lambda: engine)
        model.engine = engine
        return model

    def remember(self, prompts: Sequence[Prompt], answers: Sequence[Completion]) -> None:
        """Have the engine know answers that were not asked of it, as if they were: hybrids may answer alike."""
        if "engine" in self.__dict__:  # a model that is not loaded yet has no hybrid
            for batch in self.engine.batches(len(prompts)):
                self.engine.remember(prompts[batch.start : batch.stop], answers[batch.start : batch.stop])

    @cached_property
    def engine(self) -> PlainEngine:
        return self._load()


def model_keys(config: Config, pair: Pair) -> dict[str, Key]:
    """All that results of the teacher and of the student depend on, beside what these are asked.

    Versions and machine are in it, so that what a record says of them is true of each of its numbers.
    """
    runtime = config.runtime
    common = {
        "version": IDENTITY_VERSION,
        "software": versions(),
        "git": git_commit(),
        "platform": platform_name(),
        "runtime": {**runtime_essence(runtime), "device": runtime.device, "threads": runtime.threads},
        "thinking": config.pair.thinking,
        "date": template_date(config, pair),
    }
    teacher = checkpoint_digest(pair.teacher_folder, pair.teacher)
    student = checkpoint_digest(pair.student_folder, pair.student)
    template = teacher if config.pair.chat_template == "teacher" else student
    return {
        "teacher": {**common, "checkpoint": teacher, "template": teacher},
        "student": {**common, "checkpoint": student, "template": template},
    }


def digest_of(value: Any) -> str:
    """SHA-256, in hex, of a JSON-serialisable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
