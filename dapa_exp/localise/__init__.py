"""Where in a model alignment sits: causal tracing of the teacher, and one projection at a time of the student."""
