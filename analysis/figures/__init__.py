"""Figures, each in a file of its own, which registers it."""
