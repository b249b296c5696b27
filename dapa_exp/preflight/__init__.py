"""Checks before a sweep starts: what its runs need, and whether this machine and the hub have it."""
