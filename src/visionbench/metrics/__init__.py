"""Metric groups: pure functions of samples, one group per file."""
