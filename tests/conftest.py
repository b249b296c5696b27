"""For all tests: tiny models gain nothing from threads, and lose much where two processes share two cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
