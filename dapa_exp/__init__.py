"""Finds the smallest set of units whose transplant from an aligned teacher makes a student refuse."""

import os

# Threads of torch that wait for each other sleep, and do not spin: where other programs hold the cores, two that spin
# are many times slower than one. It is read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
