"""Exports the hybrid as a full checkpoint: a copy of the student's files with the bytes of changed tensors replaced.

So shards, names, dtypes and metadata stay the student's. Unchanged bytes are copied by the kernel and never loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from dapa_exp.models.tensors import TensorInfo, TensorReader
from dapa_exp.transplant.export.card import model_card
from dapa_exp.transplant.export.fill import Changed, Expected, copy_around, fill
from dapa_exp.transplant.export.layout import Slot
from dapa_exp.transplant.export.manifest import MANIFEST, Manifest
from dapa_exp.transplant.export.place import new_output
from dapa_exp.zoo import store

COMPANIONS = (".json", ".jinja", ".model", ".txt", ".md")
"""Suffixes of the files beside the weights that are copied too: configs, tokenizer, templates, licences."""
GENERATION_CONFIG = "generation_config.json"
NOT_THE_STUDENTS = ("README.md", MANIFEST, store.MANIFEST)
"""Files that are not copied: they describe the student, or are written anew for the hybrid."""


def write_checkpoint(
    out: Path,
    folder: Path,
    student: TensorReader,
    tensors: Changed,
    expected: Expected,
    describe: Callable[[dict[str, str]], Manifest],
) -> None:
    """Write the checkpoint folder `out` from the student's `folder`.

    `describe` makes the manifest from the digests of the written tensors. Raises DapaError, and writes nothing, if a
    file or tensor is missing, broken or not the expected one.
    """
    files = sorted({info.file for info in student.tensors.values()})
    companions = [file for file in sorted(folder.iterdir()) if _goes_along(file)]
    with new_output(out, sum(file.stat().st_size for file in [*files, *companions])) as part:
        part.mkdir()
        for file in companions:
            shutil.copyfile(file, part / file.name)
        changed = [student.tensors[name] for name in tensors.changed]
        slots = {
            name: slot
            for file in files
            for name, slot in _copy_weights(
                file, part / file.relative_to(folder), [info for info in changed if info.file == file]
            ).items()
        }
        manifest = describe(fill(slots, tensors, expected))
        if manifest.chat_template is not None:
            (part / "chat_template.jinja").write_text(manifest.chat_template, encoding="utf-8")
        _carry_ends(part, manifest.record.pair.end_tokens)
        (part / "README.md").write_text(model_card(manifest), encoding="utf-8")
        (part / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def _carry_ends(part: Path, ends: list[int] | None) -> None:
    """Write the tokens that ended answers in the run into the checkpoint's generation config."""
    config = part / "config.json"
    file = part / GENERATION_CONFIG
    stored = json.loads((file if file.is_file() else config).read_text(encoding="utf-8"))
    own = stored.get("eos_token_id")
    if not ends or set(ends) == set(own if isinstance(own, list) else [own]):
        return
    kept = stored if file.is_file() else {key: stored[key] for key in ("bos_token_id", "pad_token_id") if key in stored}
    file.write_text(json.dumps({**kept, "eos_token_id": ends}, indent=2) + "\n", encoding="utf-8")


def _copy_weights(file: Path, target: Path, changed: Collection[TensorInfo]) -> dict[str, Slot]:
    """Copy a weight file without the bytes of changed tensors. Returns the slots of these tensors in the copy."""
    target.parent.mkdir(exist_ok=True, parents=True)
    slots = {info.name: Slot(target, info.start, info.start + info.bytes) for info in changed}
    copy_around(file, target, slots.values())
    return slots


def _goes_along(file: Path) -> bool:
    named = file.suffix in COMPANIONS or file.name.upper().startswith(("LICENSE", "NOTICE"))
    return named and file.is_file() and file.name not in NOT_THE_STUDENTS
