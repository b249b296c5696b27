"""Makes an ordinary checkpoint of what comes as GGUF, pickled, or as a LoRA adapter: once, in the user's cache.

Everything after that reads safetensors tensor by tensor and need not know. A converted checkpoint is named by the
digest of what it was made of, is filled under a temporary name, and is renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from dapa_exp.base.digests import cache_root, file_digest, folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.gguf import read_gguf
from dapa_exp.base.packages import need_package
from dapa_exp.models.templates import give_template

TOKENIZER = (
    "*.jinja",
    "*.model",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Files that turn text into tokens."""


def dequantised(file: Path) -> Path:
    """The folder of a GGUF file as a float32 checkpoint, which holds its values exactly.

    Raises DapaError where transformers cannot read it.
    """
    need_package("gguf", f"{file}: reading GGUF")

    def fill(folder: Path) -> None:
        model, tokenizer = read_gguf(file)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return _converted(file, ("gguf", file_digest(file)), fill)


def unpickled(folder: Path) -> Path:
    """The folder of a checkpoint whose weights were pickled, as safetensors. No code in a pickle is run.

    Raises DapaError where torch refuses what it finds.
    """

    def fill(target: Path) -> None:
        _as_stored(folder, use_safetensors=False, weights_only=True).save_pretrained(target)
        _copy_tokenizer(folder, target)
        give_template(folder, target)

    return _converted(folder, ("pickle", folder_digest(folder)), fill)


def merged(adapter: Path, base: Path) -> Path:
    """The folder of a checkpoint that is `base` with a LoRA adapter merged into it, in the base's dtype.

    Its tokenizer is the adapter's own where it has one. Raises DapaError where peft cannot merge them.
    """
    need_package("peft", f"{adapter}: merging a LoRA adapter")

    def fill(folder: Path) -> None:
        from peft import PeftModel

        peft_model = PeftModel.from_pretrained(_as_stored(base, use_safetensors=True), adapter, use_safetensors=True)
        peft_model.merge_and_unload(safe_merge=True).save_pretrained(folder)
        for source in (base, adapter):
            _copy_tokenizer(source, folder)
        for source in (base, adapter):  # the last one's that has one: it may lie in another file than the first's
            give_template(source, folder)

    return _converted(adapter, ("lora with its template", folder_digest(adapter), folder_digest(base)), fill)


def _as_stored(folder: Path, **settings: bool) -> PreTrainedModel:
    """A checkpoint's model in the dtype of its weights, which need not be the one that its config names."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.dtype = None
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype="auto", trust_remote_code=False, **settings
    )
    return model


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in (file for pattern in TOKENIZER for file in source.glob(pattern)):
        shutil.copy(file, target)


def _converted(source: Path, key: tuple[str, ...], fill: Callable[[Path], None]) -> Path:
    """What `fill` has written, or writes now, into the cache's folder for a key."""
    folder = cache_root() / "converted" / hashlib.sha256("|".join(key).encode()).hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # one that was killed may have left it
        partial.mkdir()
        try:
            fill(partial)
            partial.rename(folder)
        except Exception as error:  # on a damaged file the libraries raise whatever comes up
            raise DapaError(f"{source}: cannot be converted: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # it may be what has filled the disk
    return folder
