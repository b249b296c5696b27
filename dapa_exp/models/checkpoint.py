"""Finds a checkpoint: in the miniature zoo, in a folder, or on the hub; as safetensors, GGUF or a LoRA adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from dapa_exp.base.digests import ZOO_MANIFEST, adapter_folders, files_digest, settings_files
from dapa_exp.base.errors import DapaError, one_line
from dapa_exp.base.gguf_parts import refuse_part
from dapa_exp.base.progress import Report, silent
from dapa_exp.config.models import Model
from dapa_exp.models.architecture import architecture
from dapa_exp.models.convert import dequantised, merged, unpickled
from dapa_exp.models.hub import needs_pickle
from dapa_exp.models.source import source_of
from dapa_exp.models.tensors import TensorReader


def locate(model: Model, *, weights: bool, report: Report = silent) -> Path:
    """The folder of a checkpoint. From the hub, its weights are downloaded only with `weights=True`.

    GGUF files, pickled weights and LoRA adapters are converted first. Raises DapaError if it is not available.
    """
    found = source_of(model).locate(weights, report)
    if file := gguf_file(found):
        return dequantised(file)
    if (found / "adapter_config.json").is_file():
        return _with_adapter(found, weights, report)
    _refuse_no_checkpoint(found)
    if weights and needs_pickle(model, found):
        return unpickled(found)
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config, with transformers' defaults for values that its config.json leaves out.

    Raises DapaError if it is missing or damaged, has an unknown architecture, or describes quantised weights.
    """
    _refuse_no_checkpoint(folder)
    return complete_config(_read_json(folder / "config.json"), str(folder))


def complete_config(stored: dict[str, Any], name: str) -> dict[str, Any]:
    """The content of a config.json, with transformers' defaults for values that it leaves out.

    `name` is the checkpoint's name in messages. Raises DapaError if the content is damaged, has an unknown
    architecture, or describes quantised weights.
    """
    model_type = str(stored.get("model_type"))
    try:
        architecture(model_type)
    except DapaError as error:
        raise DapaError(f"{name}: {error}") from None
    if quantised := stored.get("quantization_config"):
        method = quantised.get("quant_method")
        raise DapaError(f"{name}: quantised ({method}); only floating-point weights can be transplanted")
    try:
        config: dict[str, Any] = CONFIG_MAPPING[model_type].from_dict(stored).to_dict()
    except Exception as error:  # on a damaged config transformers raises whatever comes up
        raise DapaError(f"{name}: config.json: {one_line(error)}") from error
    return config


def base_of(adapter: Mapping[str, Any], name: str) -> Model:
    """The base model of an adapter, from the content of its adapter_config.json. `name` is its name in messages.

    Raises DapaError if the content names no base, or if the adapter is not a LoRA adapter.
    """
    if adapter.get("peft_type") != "LORA":
        raise DapaError(f"{name}: an adapter of type {adapter.get('peft_type')}; only LORA can be merged")
    if not (base := adapter.get("base_model_name_or_path")):
        raise DapaError(f"{name}: adapter_config.json: base_model_name_or_path is not set")
    folder = Path(base)
    return Model(id=str(folder.resolve()) if folder.is_dir() else base, revision=adapter.get("revision"))


def unsafe_adapter(name: str) -> str:
    """The problem of an adapter that has no safetensors."""
    return f"{name}: no adapter_model.safetensors (pickled weights are not read)"


def bad_base(name: str, problem: str) -> str:
    """The problem of an adapter whose base cannot be read."""
    return f"{name}: its base: {problem} (adapter_config.json names it in base_model_name_or_path)"


def checkpoint_digest(folder: Path, tensors: TensorReader) -> str:
    """SHA-256 over a checkpoint's configs, its tokenizer, and those of its weights that are read.

    The hub's cache is shared, so other tools may put the same weights in other formats beside them; and what the zoo
    knows of a model, such as how long it took to make, is another thing each time.
    """
    beside = {file for file in settings_files(folder) if file.name != ZOO_MANIFEST}
    return files_digest(beside | {info.file for info in tensors.tensors.values()})


def gguf_file(found: Path) -> Path | None:
    """The GGUF file that was named, or that a folder without any other checkpoint holds."""
    if found.suffix == ".gguf":
        refuse_part(str(found))
        return found
    if (found / "config.json").is_file() or (found / "adapter_config.json").is_file():
        return None
    files = sorted(found.glob("*.gguf"))
    for file in files:
        refuse_part(str(file))
    if len(files) > 1:
        raise DapaError(f"{found}: holds {len(files)} GGUF files; name one, such as {files[0]}")
    return files[0] if files else None


def _refuse_no_checkpoint(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise DapaError(f"{folder}: no config.json there, so no checkpoint")


def _with_adapter(folder: Path, weights: bool, report: Report) -> Path:
    adapter_folders(folder)  # refuses a circle
    named = base_of(_read_json(folder / "adapter_config.json"), str(folder))
    try:
        base = locate(named, weights=weights, report=report)
        read_config(base)
    except DapaError as error:
        raise DapaError(bad_base(str(folder), str(error))) from error
    if not weights:
        return base
    if not (folder / "adapter_model.safetensors").is_file():
        raise DapaError(unsafe_adapter(str(folder)))
    return merged(folder, base)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DapaError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict):
        raise DapaError(f"{file}: holds no object")
    return content
