"""Priors by name: which units are likely to matter, found out before the first query.

A prior maps every unit to its importance, higher being more important; only the order is used. It is a hint. A
search may ask in its order, and must not trust it: see `dapa_exp.search.auto`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from dapa_exp.errors import DapaError, nearest
from dapa_exp.localise.forks import Fork, find_forks, read
from dapa_exp.evaluate.prompts import Prompt
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.search.priors import attribution as gradients, difference
from dapa_exp.transplant.hybrid import Hybrid
