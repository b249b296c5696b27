"""Writes the hybrid of a finished run to disk: as a patch, a full checkpoint or a mergekit recipe."""
