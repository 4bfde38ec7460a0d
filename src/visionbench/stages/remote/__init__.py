"""Stages of a model at an endpoint: timed requests, and the evaluation by requests."""
