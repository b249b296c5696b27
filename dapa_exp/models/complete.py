"""Checks that a checkpoint's tensors fill the model that its config describes.

It reads headers only, and the values of two tensors that the config ties.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from dapa_exp.base.errors import DapaError, one_line
from dapa_exp.base.unplaced import refuse_unplaced, refuse_untied
from dapa_exp.models.architecture import architecture
from dapa_exp.models.tensors import FLOATS, TensorReader


def read_whole(folder: Path) -> TensorReader:
    """The tensors of a checkpoint that fills its model.

    Raises DapaError, which names tensors that are missing, left over, quantised, of another shape than the model's, or
    tied by the config and yet not the same.
    """
    tensors = TensorReader(folder)
    model = _without_weights(folder)
    parameters = model.state_dict(keep_vars=True)  # tied ones are one object
    row = architecture(model.config.model_type)
    filled = dict.fromkeys(map(id, parameters.values()), 0)
    whole: dict[int, str] = {}  # the tensor that is all of a parameter
    left_over = []
    for name, info in tensors.tensors.items():
        place = row.parameter_of(name)
        if (parameter := parameters.get(place.parameter)) is None:
            left_over.append(name)
            continue
        part = place.of(parameter)
        if part.shape != info.shape:
            raise DapaError(f"{info.file}: {name}: {list(info.shape)}, but by config.json {list(part.shape)}")
        if info.dtype not in FLOATS and parameter.is_floating_point():  # transformers would take them for weights
            raise DapaError(f"{info.file}: {name}: quantised ({info.dtype}); only floating-point weights can be read")
        filled[id(parameter)] += part.numel()
        if part.numel() == parameter.numel() and (twin := whole.setdefault(id(parameter), name)) != name:
            _refuse_unlike(folder, tensors, *sorted((name, twin)))
    missing = [name for name, parameter in parameters.items() if filled[id(parameter)] < parameter.numel()]
    refuse_unplaced(str(folder), missing, left_over)
    return tensors


def _refuse_unlike(folder: Path, tensors: TensorReader, head: str, embeddings: str) -> None:
    """Raise DapaError if two tensors that are one parameter of the model differ."""
    one, other = tensors.read(head), tensors.read(embeddings)
    if one.dtype != other.dtype or not torch.equal(one, other):
        refuse_untied(str(folder), head, embeddings)


def _without_weights(folder: Path) -> PreTrainedModel:
    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # on a damaged config transformers raises whatever comes up
        raise DapaError(f"{folder}: config.json: {one_line(error)}") from error
    return model
