"""The paper's tables, each made from a DataFrame of runs (`analysis.load`)."""

from analysis.tables.ablation import ablation_table
from analysis.tables.judges import agreement_table, has_agreement, has_judges, judges_table
from analysis.tables.main import main_table
from analysis.tables.search_cost import search_cost_table
from analysis.tables.stability import has_repeats, stability_table
from analysis.tables.table import Table
from analysis.tables.utility import has_utility, utility_table

__all__ = [
    "Table",
    "ablation_table",
    "agreement_table",
    "has_agreement",
    "has_judges",
    "has_repeats",
    "has_utility",
    "judges_table",
    "main_table",
    "search_cost_table",
    "stability_table",
    "utility_table",
]
