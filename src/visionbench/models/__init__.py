"""Model families, one file each: loading, preprocessing, calling, postprocessing and evaluation."""
