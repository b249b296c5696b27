"""The metrics of a report. Each file registers one."""
