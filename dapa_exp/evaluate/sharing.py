"""What an evaluation of a teacher or student depends on, so that the runs of a sweep can share it."""

from __future__ import annotations

from dapa_exp.config.schema import Config
from dapa_exp.models.checkpoint import checkpoint_digest
from dapa_exp.models.pair import Pair
from dapa_exp.models.pair_templates import template_date
from dapa_exp.record.identity import IDENTITY_VERSION, runtime_essence
from dapa_exp.record.provenance import git_commit, package_version, platform_name, versions
from dapa_exp.record.shared import Key


def model_keys(config: Config, pair: Pair) -> dict[str, Key]:
    """Everything that answers of teacher and student depend on, except prompts and length; by the model's name.

    Versions and platform are included, so that the record's provenance is true for shared numbers, too.
    """
    runtime = config.runtime
    common = {
        "version": IDENTITY_VERSION,
        "software": {**versions(), "lm_eval": package_version("lm_eval")},
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
