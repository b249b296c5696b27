"""Tasks in lm-evaluation-harness's form."""
