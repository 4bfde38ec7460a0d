"""The cache of quantised parts: an entry depends on the converted part, the method, the calibration and the library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from visionbench.core import Calibration, ConfigError, ExecutedGraph, first_line
from visionbench.exports import cache
from visionbench.exports.onnx import Export

COUNTS = "counts.json"


@dataclass(frozen=True)
class Quantized:
    """A quantised part."""

    folder: Path
    seconds: float | None
    """The seconds of the quantisation; None if the part was quantised before."""
    bytes: int
    facts: Mapping[str, str | int]
    """The method, the versions of the libraries, and the counts of layers and of weights in int8."""

    def file(self, name: str) -> Path:
        """Return the path of a file of the part."""
        return self.folder / name

    def complete(self, opened: ExecutedGraph, export: Export) -> ExecutedGraph:
        """Return an opened part with the times of its conversion and of its quantisation, its size and its facts."""
        return replace(
            opened,
            export_s=export.seconds,
            quantize_s=self.seconds,
            file_bytes=self.bytes,
            facts={**opened.facts, **self.facts},
        )


def quantized(
    export: Export,
    method: str,
    versions: Mapping[str, str],
    calibration: Calibration | None,
    build: Callable[[Path], Mapping[str, int]],
) -> Quantized:
    """Return a quantised part, quantised now or before.

    `build` writes the files of the part to a folder, and returns `quantized_layers`, `linear_layers` and
    `quantized_parameters`. Raises ConfigError if it fails, or if no layer is quantised.
    """
    depends_on = [export.digest, method, dict(versions), calibration.digest if calibration else None]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()

    def write(draft: Path) -> None:
        try:
            counts = dict(build(draft))
        except Exception as error:
            raise ConfigError(
                f"precision.quantization={method}: this model cannot be quantised ({first_line(error)})",
                "use precision=fp32",
            ) from error
        if not counts["quantized_layers"]:
            raise ConfigError(
                f"precision.quantization={method}: none of the {counts['linear_layers']} layers with weights was "
                "quantised",
                "use precision=fp32",
            )
        (draft / COUNTS).write_text(json.dumps(counts), encoding="utf-8")

    start = perf_counter()
    folder, is_new = cache.entry(f"{method}-{digest}", write)
    seconds = perf_counter() - start if is_new else None
    counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    return Quantized(folder, seconds, cache.size_bytes(folder), {"quantization": method, **versions, **counts})
