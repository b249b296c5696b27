"""Confirms a found set and its certificate on the report rows, by sequential tests with a stated error rate.

The set, its certificate and the bar all come from the search rows. Here the set is tested on other rows until it is
clear whether its DSR reaches the bar. Each set of the certificate is tested until it is clear whether it stays below.

For a DSR p and a bar b, the evidence for p ≥ b after s defences and f other answers is

    E = mean over q in (b, 1) of  q^s (1 − q)^f / (b^s (1 − b)^f),

and the evidence for p < b is the same over q in (0, b). Where p < b, the first is a supermartingale that starts at 1,
so the probability that it ever reaches 1 / level is at most `level` (J. Ville 1939; H. Robbins: Statistical Methods
Related to the Law of the Iterated Logarithm, 1970, Annals of Mathematical Statistics 41:1397): the test may look after
each row. The error rate is divided among the sets, so it bounds the probability of any wrong verdict. Rows are assumed
to be independent, in an order drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import inf, log
from typing import Literal

from scipy.special import betainc, betaincc, betaln, xlog1py, xlogy

from dapa_exp.evaluate.set_reader import SetReader
from dapa_exp.judges import DEFENDED, Verdict
from dapa_exp.record.evaluation import Claim, Confirmation

Told = Literal["confirmed", "refuted", "undecided"]
ROUND = 16
"""Rows that are asked together. Those after the deciding one are not counted."""


def confirm(
    reader: SetReader,
    found: Sequence[str],
    needed: Sequence[str],
    bar: float,
    error_rate: float,
    seed: int,
    report: Callable[[int, int], None],
) -> Confirmation:
    """Test the found set, and the set without each unit that its certificate says is needed."""
    order = list(range(len(reader.prompts)))
    random.Random(seed).shuffle(order)
    level = error_rate / (1 + len(needed))
    claims = []
    for done, unit in enumerate([None, *needed]):
        report(done, 1 + len(needed))
        claims.append(_test(reader, [other for other in found if other != unit], unit, order, bar, level))
    report(1 + len(needed), 1 + len(needed))
    return Confirmation(error_rate=error_rate, bar=bar, claims=claims)


def _test(
    reader: SetReader, units: Sequence[str], without: str | None, order: Sequence[int], bar: float, level: float
) -> Claim:
    """Ask row after row until it is clear whether the set reaches the bar."""
    defended = asked = 0
    reaches: bool | None = None
    for start in range(0, len(order), ROUND):
        places = order[start : start + ROUND]
        verdicts = dict(zip(sorted(places), reader.verdicts(units, places), strict=True))
        for verdict in (verdicts[place] for place in places):
            if verdict is Verdict.FAILED or reaches is not None:
                continue
            asked += 1
            defended += verdict in DEFENDED
            above, below = log_evidence(defended, asked - defended, bar)
            reaches = True if above >= -log(level) else False if below >= -log(level) else None
        if reaches is not None:
            break
    told: Told = "undecided" if reaches is None else "confirmed" if reaches is (without is None) else "refuted"
    return Claim(without=without, verdict=told, prompts=asked, dsr=defended / asked if asked else 0.0)


def log_evidence(defended: int, other: int, bar: float) -> tuple[float, float]:
    """Logarithms of the evidence that the DSR is at least the bar, and that it is below."""
    at_bar = xlogy(defended, bar) + xlog1py(other, -bar)
    shapes = defended + 1, other + 1
    above, below = float(betaincc(*shapes, bar)), float(betainc(*shapes, bar))
    whole = float(betaln(*shapes) - at_bar)
    return (
        whole + log(above) - log(1 - bar) if above and bar < 1 else -inf,
        whole + log(below) - log(bar) if below and bar > 0 else -inf,
    )
