"""Finds a checkpoint: in the miniature zoo, in a folder, or on the hub; as safetensors, GGUF or a LoRA adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import CONFIG_MAPPING

from dapa_exp.config.schema import Model
from dapa_exp.errors import DapaError
from dapa_exp.models.architecture import architecture
from dapa_exp.models.convert import TOKENIZER, dequantised, merged, unpickled
from dapa_exp.zoo import store

_CONFIGS = ["*.json", *TOKENIZER]
_WEIGHTS = ["model*.safetensors", "adapter_model.safetensors"]
"""Not all safetensors: some repositories hold the same weights a second time, under other names."""


def locate(model: Model, *, weights: bool) -> Path:
    """The folder that holds a checkpoint; from the hub, without its weights unless they are asked for.

    GGUF and LoRA adapters are converted on the way. Raises DapaError where it cannot be had, saying why.
    """
    if model.zoo_name:
        return store.path(model.zoo_name)
    found = model.folder or _download(model, weights)
    if file := _gguf(found):
        return dequantised(file)
    if (found / "adapter_config.json").is_file():
        return _with_adapter(found, weights)
    if not (found / "config.json").is_file():
        raise DapaError(f"{found}: no config.json there, so no checkpoint")
    if weights and model.allow_pickle and not any(found.glob("model*.safetensors")):
        return unpickled(found)
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config, the values that its config.json leaves out filled in.

    Raises DapaError where it is missing or damaged, of an unknown architecture, or of quantised weights.
    """
    stored = _read_json(folder / "config.json")
    model_type = str(stored.get("model_type"))
    architecture(model_type)
    if "quantization_config" in stored:
        method = stored["quantization_config"].get("quant_method")
        raise DapaError(f"{folder}: quantised ({method}); only floating-point weights can be transplanted")
    try:
        config: dict[str, Any] = CONFIG_MAPPING[model_type].from_dict(stored).to_dict()
    except (ValueError, TypeError) as error:
        raise DapaError(f"{folder / 'config.json'}: {error}") from error
    return config


def _gguf(found: Path) -> Path | None:
    """The GGUF file that was named, or that a folder without any other checkpoint holds."""
    if found.suffix == ".gguf":
        return found
    if (found / "config.json").is_file() or (found / "adapter_config.json").is_file():
        return None
    files = sorted(found.glob("*.gguf"))
    if len(files) > 1:
        raise DapaError(f"{found}: holds {len(files)} GGUF files; name one, such as {files[0]}")
    return files[0] if files else None


def _with_adapter(folder: Path, weights: bool) -> Path:
    adapter = _read_json(folder / "adapter_config.json")
    if adapter.get("peft_type") != "LORA":
        raise DapaError(f"{folder}: an adapter of type {adapter.get('peft_type')}; only LORA can be merged")
    if not (name := adapter.get("base_model_name_or_path")):
        raise DapaError(f"{folder / 'adapter_config.json'}: base_model_name_or_path is not set")
    if Path(name).is_dir():
        name = str(Path(name).resolve())
    base = locate(Model(id=name, revision=adapter.get("revision")), weights=weights)
    if not weights:
        return base
    if not (folder / "adapter_model.safetensors").is_file():
        raise DapaError(f"{folder}: no adapter_model.safetensors (pickled weights are not read)")
    read_config(base)
    return merged(folder, base)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DapaError(f"{file}: {error}") from error
    return content


def _download(model: Model, weights: bool) -> Path:
    """The folder of a hub repository or, for an id of the form `owner/name/file.gguf`, that file."""
    name = model.id + (f"@{model.revision}" if model.revision else "")
    repository, file = model.id, None
    if model.id.endswith(".gguf"):
        if model.id.count("/") < 2:
            raise DapaError(
                f"{name}: a GGUF file on the hub is named owner/name/file.gguf, one here starts with / or ./"
            )
        owner, title, file = model.id.split("/", 2)
        repository = f"{owner}/{title}"
    wanted = [*_CONFIGS, *_WEIGHTS, *["pytorch_model*.bin"] * model.allow_pickle] if weights else _CONFIGS
    patterns = [file] if file else wanted
    try:
        folder = Path(snapshot_download(repository, revision=model.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise DapaError(
            f"{name}: gated: accept its licence at https://huggingface.co/{repository} and log in (hf auth login)"
        ) from error
    except RevisionNotFoundError as error:
        raise DapaError(f"{name}: the repository has no such revision") from error
    except RepositoryNotFoundError as error:
        raise DapaError(f"{name}: not on the hub, or private and no token is set") from error
    except (HfHubHTTPError, OSError) as error:
        raise DapaError(f"{name}: the hub cannot be reached and no copy is cached ({error})") from error
    if file and not (folder / file).is_file():
        raise DapaError(f"{name}: the repository has no such file")
    return folder / file if file else folder
