"""The record of a run: the files that the runner writes and that every reader reads."""
