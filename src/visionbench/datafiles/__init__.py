"""Readers and checks for the files of a data set: pictures, annotation files, tables and folders."""
