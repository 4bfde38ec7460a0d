"""Results read back: runs below a folder, summaries, data frames, repeats and comparisons. Nothing here measures."""
