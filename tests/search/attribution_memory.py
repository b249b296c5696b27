"""Prints by how many bytes attribution raises the peak memory of a process that has run inference."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from dapa_exp.base.memory import peak_memory_bytes
from dapa_exp.models.architecture import units
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.search.attribution import attribution
from dapa_exp.tracing.forks import Fork, read
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.zoo import tokenizer as tokenizers


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    teacher, student = TensorReader(folder / "teacher"), TensorReader(folder / "student")
    model = AutoModelForCausalLM.from_pretrained(folder / "student", dtype=torch.float32)
    layers = model.config.num_hidden_layers
    pair = Pair(
        folder / "teacher",
        folder / "student",
        teacher,
        student,
        "llama",
        layers,
        units("llama", layers, ["layer"], student),
        (),
    )
    loaded = LoadedModel(model.eval(), tokenizers.make("llama"))
    hybrid = Hybrid(model, pair)
    forks = [Fork(str(row), tuple(range(8, 24)), range(4, 12), 5, 6) for row in range(8)]
    read(loaded, forks, len(forks))
    hybrid.set_units(pair.units)
    hybrid.set_units(())
    before = peak_memory_bytes()
    attribution(hybrid, loaded, pair, forks, len(forks))
    print(peak_memory_bytes() - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
