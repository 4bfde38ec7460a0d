"""Trackers: where results go after the local file has them."""
