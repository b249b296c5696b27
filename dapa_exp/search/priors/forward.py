"""Priors from forward passes: single transplants, and causal tracing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import PRIORS
from dapa_exp.models.architecture import layer_of

if TYPE_CHECKING:
    from dapa_exp.record.localisation import Kind
    from dapa_exp.search.evidence import Evidence, Scores


def single_swap(evidence: Evidence) -> Scores:
    """Mean refusal log-odds, in nats, that each unit by itself adds to the student's."""
    from dapa_exp.tracing.forks import read  # here, since a config is read without torch

    def log_odds(units: tuple[str, ...]) -> float:
        evidence.hybrid.set_units(units)
        return float(read(evidence.loaded, evidence.forks, evidence.batch_size).log_odds.mean())

    student = log_odds(())
    return {unit: log_odds((unit,)) - student for unit in evidence.pair.units}


def causal_tracing(evidence: Evidence) -> Scores:
    """Indirect effect of each unit's layer, at the request and at the last token together, with everything
    transplanted. A projection has the score of the MLP or attention it is part of.
    """
    from dapa_exp.tracing.causal import KINDS, POSITIONS, Tracer

    pair = evidence.pair
    if untraced := [unit for unit in pair.units if layer_of(unit) < 0 or unit.endswith(".norms")]:
        raise DapaError(f"search.prior=causal_tracing: it traces layers, MLPs and attention, and not {untraced[0]}")
    evidence.hybrid.set_units(pair.units)
    tracer = Tracer(
        evidence.loaded, pair.model_type, pair.num_layers, evidence.forks, evidence.tracing, evidence.batch_size
    )
    kinds: set[Kind] = {_kind(unit) for unit in pair.units}
    effects = {(kind, place): tracer.effects(kind, place) for kind in KINDS if kind in kinds for place in POSITIONS}
    return {
        unit: sum(effects[_kind(unit), place][layer_of(unit)].log_odds.value for place in POSITIONS)
        for unit in pair.units
    }


def _kind(unit: str) -> Kind:
    """The state that a unit decides: `layers.3.mlp.up_proj` that of the MLP, `layers.3` the residual stream."""
    module = unit.split(".")[2:3]
    return "residual" if not module else "mlp" if module == ["mlp"] else "attention"


PRIORS.register("single_swap", single_swap)
PRIORS.register("causal_tracing", causal_tracing)
