"""Measures how far each single projection of the teacher moves the student towards the teacher.

This is the paper's argument for gate projections: replace one projection of one layer of the student by the teacher's,
and measure the cosine similarity of the last token's hidden state to the teacher's, mean over prompts. The projections
of attention are measured in the same way, as the paper's reviewers asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from dapa_exp.evaluate.statistics import mean
from dapa_exp.models.architecture import Part, Units, architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.record.localisation import Swapped
from dapa_exp.tracing.forks import Fork, Readings, read
from dapa_exp.transplant.hybrid import Hybrid


def projections(pair: Pair, layer: int) -> Units:
    """Every matrix of a layer, with its bias, by its name in the checkpoint, such as `gate_proj`.

    The experts of a mixture share their names, so the same matrix of all experts counts as one projection.
    """
    prefix = architecture(pair.model_type).layer.format(layer=layer)
    within = {name: name.rpartition(".")[0] for name in sorted(pair.student) if name.startswith(prefix)}
    owners = {owner for name, owner in within.items() if len(pair.student.tensors[name].shape) == 2}
    found: dict[str, list[Part]] = {}
    for name, owner in within.items():
        if owner in owners:
            found.setdefault(owner.rpartition(".")[2], []).append(Part(name))
    return {word: tuple(parts) for word, parts in found.items()}


class Swapper:
    """Measures single projections against the unchanged student, and leaves the model unchanged."""

    def __init__(
        self,
        loaded: LoadedModel,
        pair: Pair,
        forks: Sequence[Fork],
        teacher_hidden: Mapping[str, torch.Tensor],
        batch_size: int,
    ) -> None:
        """`teacher_hidden` holds the teacher's last hidden state, shape (hidden,), by prompt id."""
        self._loaded = loaded
        self._pair = pair
        self._forks = [fork for fork in forks if fork.prompt in teacher_hidden]
        self.teacher = torch.stack([teacher_hidden[fork.prompt] for fork in self._forks])
        self._batch_size = batch_size
        self.student = self._read()

    def layer(self, layer: int) -> list[Swapped]:
        """One measurement for each projection of a layer."""
        units = projections(self._pair, layer)
        hybrid = Hybrid(self._loaded.model, replace(self._pair, units=units))
        found = []
        for module in units:
            hybrid.set_units([module])
            found.append(self._swapped(layer, module, self._read()))
        hybrid.set_units(())
        return found

    def _swapped(self, layer: int, module: str, swapped: Readings) -> Swapped:
        before, after = (functional.cosine_similarity(r.hidden, self.teacher) for r in (self.student, swapped))
        return Swapped(
            layer=layer,
            module=module,
            cosine=mean(after.tolist()),
            cosine_change=mean((after - before).tolist()),
            log_odds_change=mean((swapped.log_odds - self.student.log_odds).tolist()),
        )

    def _read(self) -> Readings:
        return read(self._loaded, self._forks, self._batch_size)
