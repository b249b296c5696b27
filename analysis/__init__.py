"""Loads records as a DataFrame, and makes tables and figures from it.

In a notebook: `from analysis import load; df = load("multirun/miniature")`. docs/data.md describes the columns.
"""

from analysis.frame import load

__all__ = ["load"]
