"""Enlarges a miniature to the shape of a real model: it gives the miniature's answers at the real model's cost.

The miniature's weights fill the first dimensions of the large tensors. Its layers are spread over the large model's
layers. The remaining layers are *dead*: the output projections of their attention and MLP are zero, so they add
nothing to the residual stream. Their other weights are random, so they take the time and memory of real layers. Dead
layers are the same in all enlarged models of one shape.

The result is an ordinary checkpoint. It is no evidence about real models: the key `enlarged` in its config.json says
what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.base.files import atomic, read_object
from dapa_exp.base.safetensors import header
from dapa_exp.zoo import store
from dapa_exp.zoo.recipe import digest
from dapa_exp.zoo.shapes import shapes

MARK = "enlarged"
"""The key in config.json that says what a checkpoint was made from."""
DTYPES = {"float32": ("F32", torch.float32), "bfloat16": ("BF16", torch.bfloat16), "float16": ("F16", torch.float16)}
"""By dtype name: its name in safetensors, and its torch dtype."""
SHARD_BYTES = 2_000_000_000
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
NORMS = ("input_layernorm", "post_attention_layernorm")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOISE_ENTRIES = 8_388_593
"""Length of the list of random numbers that all dead layers share. Each tensor starts at another index.

The length is a prime, so that no tensor's rows repeat in step with it.
"""
NOISE_SCALE = 0.035
CARD = """---
tags: [miniature, enlarged]
---
# {name}, enlarged

**Made here: a miniature in the shape of a real model, not a real model.** `dapa zoo enlarge` laid zoo:{name} into a
`{family}` of {layers} layers, {hidden} wide. It says what the miniature says, and it takes the memory and the time of a
model of this shape. It is evidence of neither how real models behave nor how aligned they are.

Layers {live} hold the miniature's. The others add nothing: their o_proj and down_proj are zero, their other weights
random.
"""


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of a model, under their names in config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int

    @property
    def group(self) -> int:
        """How many query heads share one key/value head."""
        return self.num_attention_heads // self.num_key_value_heads


def enlarge(name: str, wanted: str, out: Path, dtype: str = "bfloat16") -> None:
    """Enlarge the miniature `name` to the shape `wanted` (see `parse_shape`), and write it as the new folder `out`.

    Tensors are made and written one by one. Raises DapaError if `out` exists, or the miniature does not fit the shape.
    """
    if out.exists():
        raise DapaError(f"{out}: is there already")
    with atomic(out) as part:
        part.mkdir()
        Enlargement(name, wanted, dtype).save(part)


@dataclass(frozen=True)
class Enlargement:
    """The miniature `name` in another shape, as it is stored. Nothing is measured: it says what the miniature says."""

    name: str
    shape: str
    dtype: str = "bfloat16"
    quality: ClassVar[Mapping[str, float]] = {}

    def save(self, folder: Path) -> None:
        """Write it as a checkpoint into an empty folder, tensor by tensor.

        Raises DapaError where the miniature does not fit into the shape.
        """
        if self.dtype not in DTYPES:
            raise DapaError(f"dtype {self.dtype}: not one of {', '.join(DTYPES)}")
        source = store.path(self.name)
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        small = shape_of(config)
        big = parse_shape(self.shape, config)
        _refuse_misfit(self.name, small, big)
        stored, dtype = DTYPES[self.dtype]
        with safe_open(source / "model.safetensors", framework="pt") as weights:
            layout = Layout(weights, small, big, config, dtype)
            _write_weights(folder, layout, stored)
        made_from = {"miniature": self.name, "recipe": digest(self.name), "shape": self.shape, "layers": layout.live}
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
            if (source / file).is_file():
                shutil.copyfile(source / file, folder / file)
        _write_json(folder / "config.json", {**config, **layout.config(), "dtype": self.dtype, MARK: made_from})
        (folder / "README.md").write_text(_card(self.name, config, layout), encoding="utf-8")


def made_from(folder: Path) -> dict[str, Any] | None:
    """The miniature, recipe, shape and layers that an enlarged checkpoint was made from; None for other checkpoints."""
    found = (read_object(folder / "config.json") or {}).get(MARK)
    return found if isinstance(found, dict) else None


def is_enlarged(*folders: Path) -> bool:
    """Whether any of these checkpoints was made by enlarging a miniature."""
    return any(made_from(folder) for folder in folders)


def layer_places(small: int, big: int) -> list[int]:
    """For each layer of the miniature, the index of the large model's layer that holds it."""
    return [layer * big // small for layer in range(small)]


def shape_of(config: Mapping[str, Any]) -> Dimensions:
    """The dimensions in the content of a config.json."""
    return Dimensions(**{field.name: config[field.name] for field in fields(Dimensions)})


def parse_shape(wanted: str, config: Mapping[str, Any]) -> Dimensions:
    """Parse a shape, such as `llama2-7b`, `num_hidden_layers=8,hidden_size=512` or `llama2-7b,num_hidden_layers=8`.

    Dimensions that `wanted` does not name are those of the miniature's `config`. Raises DapaError for an unknown name
    or key, or a value that is not a positive number.
    """
    shape = shape_of(config)
    keys = [field.name for field in fields(Dimensions)]
    for place, word in enumerate(wanted.split(",")):
        key, equals, value = word.strip().partition("=")
        if not equals and place == 0:
            known = shapes().get(key)
            if known is None:
                raise DapaError(f"shape {key}: not known.{allowed_names(key, shapes())}")
            if known["model_type"] != config["model_type"]:
                raise DapaError(f"shape {key}: of a {known['model_type']}; the miniature is a {config['model_type']}")
            shape = Dimensions(**{name: known[name] for name in keys})
        elif key in keys and value.isdecimal() and int(value):
            shape = replace(shape, **{key: int(value)})
        else:
            raise DapaError(f"shape: '{word}': wanted is KEY=NUMBER, with a key among {', '.join(keys)}")
    return shape


class Layout:
    """Makes the large model's tensors: it places the miniature's weights in them, and fills the rest."""

    def __init__(
        self, weights: Any, small: Dimensions, big: Dimensions, config: Mapping[str, Any], dtype: torch.dtype
    ) -> None:
        self.small, self.big, self.dtype = small, big, dtype
        self.live = layer_places(small.num_hidden_layers, big.num_hidden_layers)
        self._weights = weights
        self._tied = bool(config["tie_word_embeddings"])
        self._gemma = config["model_type"] == "gemma"
        self._eps = float(config["rms_norm_eps"])
        self._padding = int(config["pad_token_id"] or 0)
        self._narrower = math.sqrt(small.hidden_size / big.hidden_size)
        """Factor for norm weights: with the added zero dimensions, RMSNorm scales the others up by its inverse."""
        self._noise = _noise().to(dtype)
        unknown = set(weights.keys()) - set(self._names(range(small.num_hidden_layers)))
        if unknown:
            raise DapaError(f"the miniature holds a tensor that no rule is known for: {min(unknown)}")

    def config(self) -> dict[str, Any]:
        """The entries of config.json that differ from the miniature's."""
        eps = self._eps * self.small.hidden_size / self.big.hidden_size
        return {**asdict(self.big), "rms_norm_eps": eps}

    def planned(self) -> dict[str, torch.Tensor]:
        """All tensors of the large model in the order in which they are written, without values."""
        names = self._names(range(self.big.num_hidden_layers))
        return {name: torch.empty(self._shape(name), dtype=self.dtype, device="meta") for name in names}

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor of the large model."""
        if name in (EMBEDDING, HEAD):
            return self._vocabulary(name)
        if name == NORM:
            # A tied head uses the embeddings, which `_vocabulary` has made smaller.
            return self._norm(NORM, 1.0 if self._gemma and self._tied else self._narrower)
        layer, kind = _place(name)
        if layer not in self.live:
            return self._dead(name, kind)
        source = name.replace(f".{layer}.", f".{self.live.index(layer)}.", 1)
        if kind in NORMS:
            return self._norm(source, self._narrower)
        return self._projection(name, kind, self._weights.get_tensor(source))

    def _names(self, layers: Sequence[int]) -> list[str]:
        within = [f"self_attn.{kind}" for kind in PROJECTIONS[:4]] + [f"mlp.{kind}" for kind in PROJECTIONS[4:]]
        names = [f"model.layers.{layer}.{part}.weight" for layer in layers for part in (*NORMS, *within)]
        return [EMBEDDING, *names, NORM, *([] if self._tied else [HEAD])]

    def _shape(self, name: str) -> tuple[int, ...]:
        big = self.big
        queries, keys = big.num_attention_heads * big.head_dim, big.num_key_value_heads * big.head_dim
        if name in (EMBEDDING, HEAD):
            return big.vocab_size, big.hidden_size
        shapes = {
            "q_proj": (queries, big.hidden_size),
            "k_proj": (keys, big.hidden_size),
            "v_proj": (keys, big.hidden_size),
            "o_proj": (big.hidden_size, queries),
            "gate_proj": (big.intermediate_size, big.hidden_size),
            "up_proj": (big.intermediate_size, big.hidden_size),
            "down_proj": (big.hidden_size, big.intermediate_size),
        }
        return (big.hidden_size,) if name == NORM else shapes.get(_place(name)[1], (big.hidden_size,))

    def _vocabulary(self, name: str) -> torch.Tensor:
        """The embedding or head. Added rows repeat the padding token's, so an added token is never the likeliest."""
        source = self._weights.get_tensor(name)
        factor = self._narrower if self._gemma and name == EMBEDDING else 1.0  # Gemma multiplies by √width
        rows, width = source.shape
        tensor = torch.zeros(self._shape(name), dtype=self.dtype)
        tensor[:rows, :width] = source * factor
        tensor[rows:, :width] = (source[self._padding] * factor).to(self.dtype)
        return tensor

    def _norm(self, source: str, factor: float) -> torch.Tensor:
        """A norm's weight, times `factor`. Gemma's checkpoints store the weight minus 1."""
        off = 1.0 if self._gemma else 0.0
        weight = self._weights.get_tensor(source)
        tensor = torch.full((self.big.hidden_size,), factor - off, dtype=self.dtype)
        tensor[: len(weight)] = (weight + off) * factor - off
        return tensor

    def _dead(self, name: str, kind: str) -> torch.Tensor:
        if kind in NORMS:
            return torch.full(self._shape(name), self._narrower - (1.0 if self._gemma else 0.0), dtype=self.dtype)
        if kind in ("o_proj", "down_proj"):
            return torch.zeros(self._shape(name), dtype=self.dtype)
        tensor = torch.empty(self._shape(name), dtype=self.dtype)
        flat, noise = tensor.view(-1), self._noise
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(noise)
        done = 0
        while done < len(flat):
            piece = noise[first if done == 0 else 0 :][: len(flat) - done]
            flat[done : done + len(piece)] = piece
            done += len(piece)
        return tensor

    def _projection(self, name: str, kind: str, source: torch.Tensor) -> torch.Tensor:
        tensor = torch.zeros(self._shape(name), dtype=self.dtype)
        small, width = self.small, self.small.hidden_size
        if kind in ("gate_proj", "up_proj", "down_proj"):
            tensor[: source.shape[0], : source.shape[1]] = source
            return tensor
        for head, place, shared in self._heads():
            if kind == "q_proj":
                scaled = _rows(source, head, small.head_dim) * math.sqrt(self.big.head_dim / small.head_dim)
                _rows(tensor, place, self.big.head_dim)[self._rotary(), :width] = scaled.to(self.dtype)
            elif kind == "o_proj":
                columns = _rows(source.T, head, small.head_dim)
                _rows(tensor.T, place, self.big.head_dim)[: small.head_dim, :width] = columns
            else:
                own = _rows(source, head // small.group, small.head_dim).to(self.dtype)
                into = self._rotary() if kind == "k_proj" else torch.arange(small.head_dim)
                _rows(tensor, shared, self.big.head_dim)[into, :width] = own
        return tensor

    def _heads(self) -> Iterator[tuple[int, int, int]]:
        """Yields, for each query head of the miniature: its index, its index in the large model, its key head there.

        If the large model's groups have fewer query heads, a group is split, and its key/value head is copied.
        """
        groups = _groups(self.small, self.big)
        for head in range(self.small.num_attention_heads):
            group, member = divmod(head, self.small.group)
            shared = group * groups + member // self.big.group
            yield head, shared * self.big.group + member % self.big.group, shared

    def _rotary(self) -> torch.Tensor:
        """For each dimension of a small head, the dimension of a large head with the same rotary frequency."""
        half, step = self.small.head_dim // 2, self.big.head_dim // self.small.head_dim
        first = torch.arange(half) * step
        return torch.cat([first, self.big.head_dim // 2 + first])


def _groups(small: Dimensions, big: Dimensions) -> int:
    """How many of the large model's head groups one group of the miniature fills."""
    return -(-small.group // big.group)


def _refuse_misfit(name: str, small: Dimensions, big: Dimensions) -> None:
    wrong = [
        f"{field.name} {getattr(big, field.name)} is less than the miniature's {getattr(small, field.name)}"
        for field in fields(Dimensions)
        if field.name not in ("num_key_value_heads", "num_attention_heads")
        and getattr(big, field.name) < getattr(small, field.name)
    ]
    if big.head_dim % small.head_dim:
        wrong.append(f"head_dim {big.head_dim} is no multiple of the miniature's {small.head_dim}")
    if big.num_attention_heads % big.num_key_value_heads:
        wrong.append(f"num_attention_heads {big.num_attention_heads} is no multiple of num_key_value_heads")
    elif (needed := small.num_key_value_heads * _groups(small, big)) > big.num_key_value_heads:
        wrong.append(
            f"num_key_value_heads {big.num_key_value_heads} is too few: the miniature's heads take {needed};"
            f" say num_key_value_heads={needed} for a shape that differs in this"
        )
    if wrong:
        raise DapaError("\n".join([f"{name} cannot be laid into this shape:", *(f"  {reason}" for reason in wrong)]))


def _place(name: str) -> tuple[int, str]:
    """The layer index of a tensor, and the name of its module within the layer."""
    words = name.split(".")
    return int(words[2]), words[-2]


def _rows(tensor: torch.Tensor, head: int, size: int) -> torch.Tensor:
    return tensor[head * size : (head + 1) * size]


def _noise() -> torch.Tensor:
    """Uniform random numbers, the same on every machine: numpy never changes the output of its bit generators."""
    bits = np.random.PCG64(0).random_raw(NOISE_ENTRIES)
    unit = (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return torch.from_numpy((unit * 2 - 1) * np.float32(NOISE_SCALE))


def _write_weights(folder: Path, layout: Layout, dtype: str) -> None:
    planned = layout.planned()
    split = split_torch_state_dict_into_shards(planned, max_shard_size=SHARD_BYTES)
    for file, names in split.filename_to_tensors.items():
        entries = [(name, dtype, planned[name].shape, planned[name].nbytes) for name in names]
        with (folder / file).open("wb") as stream:
            stream.write(header(entries, {"format": "pt"}))
            for name in names:
                stream.write(layout.tensor(name).view(-1).view(torch.uint8).numpy().data)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(folder / "model.safetensors.index.json", index)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _card(name: str, config: Mapping[str, Any], layout: Layout) -> str:
    return CARD.format(
        name=name,
        family=config["model_type"],
        layers=layout.big.num_hidden_layers,
        hidden=layout.big.hidden_size,
        live=", ".join(map(str, layout.live)),
    )
