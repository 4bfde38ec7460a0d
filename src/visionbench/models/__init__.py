"""Model families, one module each: loading, preprocessing, calling, postprocessing and evaluation."""
