"""Where a pair's alignment is: causal tracing of the teacher, and swaps of single projections in the student."""
