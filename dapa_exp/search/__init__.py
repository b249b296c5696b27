"""Search for the smallest set of units whose transplant makes the student refuse.

The algorithms know no model: they are given a `test` and return a `SearchResult`.
"""

from dapa_exp.search.algorithm import ALGORITHMS, Control, Reduction
from dapa_exp.search.query import Budget, Certificate, Outcome, Query, SearchResult, Settings, Test, Unit
from dapa_exp.search.solve import search
from dapa_exp.search.stability import jaccard, non_monotone_pairs, stability

__all__ = [
    "ALGORITHMS",
    "Budget",
    "Certificate",
    "Control",
    "Outcome",
    "Query",
    "Reduction",
    "SearchResult",
    "Settings",
    "Test",
    "Unit",
    "jaccard",
    "non_monotone_pairs",
    "search",
    "stability",
]
