"""Runtimes, one module each: the libraries that execute the parts of a loaded model."""
