"""Random sets of units, compared with the found set: how many of them reach the found set's DSR?

The null hypothesis: the found set is a random set of its size. If b of m other sets have at least its DSR, the p-value
is (1 + b) / (1 + m). It is exact if all other sets were measured. If they were drawn, it is a Monte Carlo p-value
(B. Phipson, G. Smyth: Permutation P-values Should Never Be Zero, 2010).

Answers have the search's length, and end as soon as the judge knows whether they are defences. For the comparison, the
answers of the found set are cut in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

from dapa_exp.base.draws import other_sets, sets_of_weight
from dapa_exp.evaluate.defence import defence_rate, mean_rate
from dapa_exp.evaluate.set_reader import SetReader
from dapa_exp.evaluate.statistics import mean
from dapa_exp.models.pair import unit_parameters
from dapa_exp.record.evaluation import ControlRecord
from dapa_exp.record.measure import ROUNDING, Measure


@dataclass(frozen=True)
class RandomControl:
    """Measures sets of units on the report rows. An answer ends as soon as its verdict is certain."""

    reader: SetReader
    report: Callable[[int, int], None]
    """Called with the number of sets done, and the number of all sets."""

    def compare(self, found: Sequence[str], draws: int, seed: int) -> ControlRecord:
        """The found set beside others of as many units and, where units differ in size, of as many parameters."""
        pair = self.reader.hybrid.pair
        units, sizes = list(pair.units), unit_parameters(pair)
        chosen, k = frozenset(found), len(found)
        if not draws or not 0 < k < len(units):
            return ControlRecord(k=k, dsr=[], mean=None)
        same_count = other_sets(units, chosen, draws, seed)
        wanted = sum(sizes[unit] for unit in chosen)
        uneven = len(set(sizes.values())) > 1
        same_size = sets_of_weight(sizes, wanted, chosen, draws, seed) if uneven else []
        total = 1 + len(same_count) + len(same_size)
        own = self._dsr(chosen, 0, total)
        measured = [self._dsr(drawn, place, total) for place, drawn in enumerate([*same_count, *same_size], start=1)]
        self.report(total, total)
        self.reader.engine.forget()
        exact = len(same_count) == comb(len(units), k) - 1
        control = self._control(own, same_count, measured[: len(same_count)], sizes, exact)
        if not same_size:
            return control
        of_size = self._control(own, same_size, measured[len(same_count) :], sizes, False)
        return control.model_copy(update={"equal_parameters": of_size})

    def _control(
        self,
        own: Measure,
        sets: Sequence[frozenset[str]],
        measured: Sequence[Measure],
        sizes: Mapping[str, int],
        exact: bool,
    ) -> ControlRecord:
        reached = sum(measure.value >= own.value - ROUNDING for measure in measured)
        values = [measure.value for measure in measured if measure.n]
        return ControlRecord(
            k=len(sets[0]),
            dsr=list(measured),
            mean=mean_rate(measured),
            sets=[[unit for unit in self.reader.hybrid.pair.units if unit in drawn] for drawn in sets],
            parameters=[sum(sizes[unit] for unit in drawn) for drawn in sets],
            found_dsr=own,
            interval=mean(values) if values else None,
            reached=reached,
            p_value=(1 + reached) / (1 + len(sets)),
            exact=exact,
        )

    def _dsr(self, units: frozenset[str], done: int, total: int) -> Measure:
        self.report(done, total)
        return defence_rate(self.reader.verdicts(units))


def seed_of(*names: object) -> int:
    """A seed that differs from pair to pair, and is the same on every machine."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, names)).encode()).digest()[:8], "big")
