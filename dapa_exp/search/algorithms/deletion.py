"""Single deletions and nothing else: the baseline that other algorithms have to beat."""

from __future__ import annotations

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.minimise import minimise

ALGORITHMS.register(
    "deletion",
    Reduction(minimise, title="Single deletions until none succeeds.", cost=(1.63, 0.96)),
)
