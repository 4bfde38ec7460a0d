"""Metric groups: pure functions of samples, one file each."""
