"""Makes an ordinary checkpoint of what comes as GGUF, pickled, or as a LoRA adapter: once, in the user's cache.

Everything after that reads safetensors tensor by tensor and need not know. A converted checkpoint is named by the
digest of what it was made of, is filled under a temporary name, and is renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from dapa_exp.base.digests import cache_root, file_digest, folder_digest
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import atomic, leftovers, remove
from dapa_exp.base.gguf import read_gguf
from dapa_exp.base.packages import need_package
from dapa_exp.base.unplaced import refuse_unplaced
from dapa_exp.models.complete import read_whole
from dapa_exp.models.hub import TOKENIZER
from dapa_exp.models.load import load_whole
from dapa_exp.models.templates import TOKENIZER_CONFIG, give_template
from dapa_exp.models.tensors import INDEX, WEIGHTS, TensorReader

ADAPTER = "adapter_model.safetensors"
VOCABULARY = "tokenizer.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"


def dequantised(file: Path) -> Path:
    """The folder of a GGUF file as a float32 checkpoint, which holds its values exactly.

    Raises DapaError where transformers cannot read it.
    """
    need_package("gguf", f"{file}: reading GGUF")

    def fill(folder: Path) -> None:
        model, tokenizer = read_gguf(file)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return _converted(file, ("whole gguf", file_digest(file)), fill)


def unpickled(folder: Path) -> Path:
    """The folder of a checkpoint whose weights were pickled, as safetensors. No code in a pickle is run.

    Raises DapaError where torch refuses what it finds, or it is something else than tensors.
    """

    def fill(target: Path) -> None:
        shard_of: dict[str, str] = {}
        shards = _pickled_shards(folder)
        for shard in shards:
            tensors = _unpickle(folder / shard)
            name = WEIGHTS if len(shards) == 1 else f"{Path(shard).stem}.safetensors"
            save_file(tensors, target / name, {"format": "pt"})
            if again := tensors.keys() & shard_of.keys():
                raise DapaError(f"{shard}: holds {min(again)}, which another shard holds too")
            shard_of |= dict.fromkeys(tensors, name)
        if len(shards) > 1:
            (target / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
        for file in folder.glob("*.json"):
            if not file.name.endswith(".index.json"):
                shutil.copy(file, target)
        _copy_tokenizer(folder, target)
        give_template(folder, target)

    return _converted(folder, ("tensors of pickle", folder_digest(folder)), fill)


def _pickled_shards(folder: Path) -> list[str]:
    """The names of the files that a checkpoint's pickled weights are in."""
    if (folder / PICKLED).is_file():
        return [PICKLED]
    index = folder / PICKLED_INDEX
    if not index.is_file():
        raise DapaError(f"neither {PICKLED} nor {PICKLED_INDEX} is there")
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DapaError(f"{index}: not an index of shards: {error!r}") from error


def _unpickle(file: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file, each with memory of its own, which safetensors asks for."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise DapaError(f"{file.name}: holds '{others[0]}', which is no tensor: it is no model's state_dict")
    return {name: tensor.contiguous().clone() for name, tensor in content.items()}


def merged(adapter: Path, base: Path) -> Path:
    """The folder of a checkpoint that is `base` with a LoRA adapter merged into it, in the base's dtype.

    Its tokenizer is the adapter's own where it has one: beside files of the base's, transformers would take the end
    token from these. Where the adapter was trained with added tokens, the model has as many embeddings as it saved.
    Raises DapaError where peft cannot merge them, and where the adapter's tensors are not those that its config asks
    for.
    """
    need_package("peft", f"{adapter}: merging a LoRA adapter")

    def fill(folder: Path) -> None:
        import peft

        model = _as_stored(base)
        tensors = load_file(adapter / ADAPTER)
        _refuse_one_of_tied_ends(model, tensors)
        _resize_embeddings(model, tensors)
        peft_model = peft.PeftModel(model, peft.PeftConfig.from_pretrained(str(adapter)))
        result: Any = peft.set_peft_model_state_dict(peft_model, tensors)
        lost = [name for name in result.missing_keys if ".default" in name]  # the rest is the base's
        parameters = peft_model.state_dict(keep_vars=True)  # of two ends that are one tensor, peft saves one
        found = {id(parameter) for name, parameter in parameters.items() if name not in lost}
        missing = [name.replace(".default", "") for name in lost if id(parameters[name]) not in found]
        copies = {name for name in tensors if name.replace(".modules_to_save", "") in tensors.keys() - {name}}
        refuse_unplaced(ADAPTER, missing, set(result.unexpected_keys) - copies)
        peft_model.merge_and_unload(safe_merge=True).save_pretrained(folder)
        if _same_tensors(TensorReader(folder), TensorReader(base)):
            raise DapaError(f"{ADAPTER}: all that it would add is zero: it was never trained, or its lora_alpha is 0")
        whole = all((adapter / name).is_file() for name in (VOCABULARY, TOKENIZER_CONFIG))
        for source in (adapter,) if whole else (base, adapter):
            _copy_tokenizer(source, folder)
        for source in (base, adapter):  # the last one's that has one: it may lie in another file than the first's
            give_template(source, folder)

    return _converted(adapter, ("whole lora with its own tokenizer", folder_digest(adapter), folder_digest(base)), fill)


def _same_tensors(one: TensorReader, other: TensorReader) -> bool:
    return set(one) == set(other) and all(torch.equal(one.read(name), other.read(name)) for name in one)


def _refuse_one_of_tied_ends(model: PreTrainedModel, saved: Mapping[str, torch.Tensor]) -> None:
    """Raise DapaError where an adapter adapts one end of a model whose ends share their weights.

    peft trains it for that end alone, and merges it into both.
    """
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in ends]
    adapted = [name for name in names if any(f".{name}.lora_" in key for key in saved)]
    if adapted and ends[0].weight is ends[1].weight:
        raise DapaError(
            f"{ADAPTER}: adapts {' and '.join(adapted)}, and in the base {' and '.join(names)} are one tensor:"
            " merged, it would be another model than was trained. Untie the base's ends, and merge it there"
        )


def _resize_embeddings(model: PreTrainedModel, saved: Mapping[str, torch.Tensor]) -> None:
    """Give a base as many embeddings as an adapter has saved, whose values then replace all of them.

    Raises DapaError where the adapter has saved them for one end of the model only, and the other has its own.
    """
    modules: dict[str, Any] = {name.rpartition(".")[2]: module for name, module in model.named_modules()}
    embeddings: Any = model.get_input_embeddings()
    ends: set[Any] = {embeddings, model.get_output_embeddings()}
    rows = {
        name: {len(tensor) for key, tensor in saved.items() if f".{name}." in key and key.endswith(".weight")}
        for name, module in modules.items()
        if module in ends
    }
    wanted = set().union(*rows.values()) - {len(embeddings.weight)}
    if not wanted:
        return
    if len(wanted) > 1:
        raise DapaError(f"{ADAPTER}: holds embeddings of different numbers of tokens: {sorted(wanted)}")
    tied = len({id(module.weight) for module in ends}) == 1
    if lacking := [] if tied else [name for name, found in rows.items() if not found]:
        raise DapaError(f"{ADAPTER}: has embeddings for {min(wanted)} tokens, but holds no {lacking[0]} for them")
    model.resize_token_embeddings(min(wanted), mean_resizing=False)


def _as_stored(folder: Path) -> PreTrainedModel:
    """A checkpoint's model in the dtype of its weights, which need not be the one that its config names."""
    read_whole(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.dtype = None
    model: PreTrainedModel = load_whole(AutoModelForCausalLM, folder, str(folder), config=config, dtype="auto")
    return model


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in (file for pattern in TOKENIZER for file in source.glob(pattern)):
        shutil.copy(file, target)


def _converted(source: Path, key: tuple[str, ...], fill: Callable[[Path], None]) -> Path:
    """What `fill` has written, or writes now, into the cache's folder for a key."""
    folder = cache_root() / "converted" / hashlib.sha256("|".join(key).encode()).hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for left in leftovers(folder.parent, folder.name):
            remove(left)
        if not folder.is_dir():
            try:
                with atomic(folder) as part:
                    part.mkdir()
                    fill(part)
            except Exception as error:  # on a damaged file the libraries raise whatever comes up
                what = str(error) if isinstance(error, DapaError) else f"{type(error).__name__}: {error}"
                raise DapaError(f"{source}: cannot be converted: {what}") from error
    return folder
