"""The examples of a run: which images are used, what their labels mean to the model, and which images are left out."""
