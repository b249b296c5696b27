"""The one day on which all runs take place, as far as models are told."""

from __future__ import annotations

from datetime import datetime

TODAY = datetime(2024, 7, 26)
"""What chat templates get that ask for today's date: the day that Llama 3's own falls back to."""
