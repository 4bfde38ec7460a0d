"""Decoders of image files, one file each."""
