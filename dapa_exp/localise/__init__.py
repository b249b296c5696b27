"""Localises a pair's alignment: causal tracing of the teacher, and swaps of single projections in the student."""
