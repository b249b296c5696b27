"""Before a sweep starts: what it needs, and whether it can have it."""
