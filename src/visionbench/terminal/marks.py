"""The marks of verdicts in tables."""

from __future__ import annotations

from visionbench.core import INVALID, VALID, WARNED

MARKS = {VALID: "", WARNED: "?", INVALID: "!"}
LEGEND = "? questionable   ! invalid"
