"""Output for the terminal: tables, progress, lists and comparisons."""
