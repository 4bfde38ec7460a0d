"""visionbench: measure vision models, and say what each number is worth."""

__version__ = "0.1.0"
