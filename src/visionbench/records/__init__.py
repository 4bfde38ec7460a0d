"""The files of a run's folder: the runner writes them, and all other commands read them."""
