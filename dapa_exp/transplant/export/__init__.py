"""The aligned model of a finished run, on disk: as a patch, as a full checkpoint, or as a mergekit recipe."""
