"""Readers and checks for the files of a data set: images, annotation files, tables and folders."""
