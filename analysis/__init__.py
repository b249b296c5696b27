"""Records as data, and the tables and figures made from them.

In a notebook: `from analysis import load; df = load("multirun/miniature")`. docs/data.md says what the columns are.
"""

from analysis.frame import load

__all__ = ["load"]
