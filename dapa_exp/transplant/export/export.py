"""Exports a finished run's hybrid as a patch, a checkpoint or a mergekit recipe, and applies patches."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.errors import DapaError
from dapa_exp.config.models import Model
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.tensors import TensorReader
from dapa_exp.transplant.export.checkpoint import write_checkpoint
from dapa_exp.transplant.export.finished import FinishedRun
from dapa_exp.transplant.export.manifest import Manifest, weight_digests
from dapa_exp.transplant.export.mergekit import write_recipe
from dapa_exp.transplant.export.patch import Patch, write_patch

FORMATS = ("patch", "checkpoint", "mergekit")


def export(run: FinishedRun, out: Path, kind: str) -> None:
    """Write a finished run's hybrid to `out`. `kind` is patch, checkpoint or mergekit.

    Raises DapaError, and leaves no file, if the export fails.
    """
    if kind == "mergekit":
        write_recipe(out, run)
        return
    folder, student = run.pair.student_folder, run.pair.student
    files = weight_digests(folder, student)

    def describe(digests: dict[str, str]) -> Manifest:
        return Manifest(
            version=1,
            student_files=files,
            tensors=dict(sorted(digests.items())),
            transplant=run.config.transplant.model_dump(mode="json"),
            chat_template=run.chat_template,
            record=run.record,
        )

    if kind == "patch":
        write_patch(out, student, run.tensors, run.expected, describe)
    else:
        write_checkpoint(out, folder, student, run.tensors, run.expected, describe)


def apply(file: Path, student: Model, out: Path) -> None:
    """Write to `out` the checkpoint that results from applying a patch to its student.

    Raises DapaError if the patch is broken, or was made for another student.
    """
    patch = Patch(file)
    made_for = patch.manifest.record.pair.student
    if student.id == made_for.id:
        student = student.model_copy(update={"revision": made_for.revision})
    folder = locate(student, weights=True)  # GGUF and LoRA are converted
    tensors = TensorReader(folder)
    wrong = _differences(patch.manifest.student_files, weight_digests(folder, tensors))
    if wrong:
        named = f"{student.id} is not {made_for.id}, for which the patch was made:"
        raise DapaError("\n".join([named, *wrong]))
    write_checkpoint(out, folder, tensors, patch, patch.expected, lambda _: patch.manifest)


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    problems = dict.fromkeys(expected.keys() - found.keys(), "missing")
    problems |= dict.fromkeys(found.keys() - expected.keys(), "not a file of that student")
    problems |= {name: "other content (SHA-256)" for name in expected.keys() & found if expected[name] != found[name]}
    return [f"  {name}: {problem}" for name, problem in sorted(problems.items())]
