"""The report of a sweep: its content, figures, translations, and files."""
