"""Stages: each fills a part of a case's samples; passes never share a window."""
