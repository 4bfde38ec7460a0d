"""Trackers: stores that results are sent to after they are written to local files."""
