"""Statistics over raw samples: timings, and quality metrics over images."""
