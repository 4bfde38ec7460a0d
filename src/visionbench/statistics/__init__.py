"""Statistics over raw samples: timings, and quality figures over pictures."""
