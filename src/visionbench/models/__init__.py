"""Model families: one file each, how to load, preprocess, call and postprocess."""
