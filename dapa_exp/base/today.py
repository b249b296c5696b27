"""The date that chat templates get as today's. It is fixed, so that a run gives the same result on any day."""

from __future__ import annotations

from datetime import datetime

TODAY = datetime(2024, 7, 26)
"""The date that Llama 3's own chat template falls back to."""
