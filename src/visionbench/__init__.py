"""visionbench: measurements of vision models, each with its conditions, its validity and its interval."""

__version__ = "0.1.0"
