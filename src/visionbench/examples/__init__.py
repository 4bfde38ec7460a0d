"""The examples of a run: which pictures it uses, what their labels mean to the model, and what was left out."""
