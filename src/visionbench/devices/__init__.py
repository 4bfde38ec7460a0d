"""Devices: one file each, how to synchronise, time, and read memory and identity."""
