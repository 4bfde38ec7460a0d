"""Metric groups: pure functions of samples, one module or package per group."""
