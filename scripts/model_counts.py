"""Write docs/models.md: the bundled models with their parameters and FLOPs, beside published ones.

    python scripts/model_counts.py

Each model is built with shapes only, from the `architecture:` of its YAML, in fp32. The FLOPs are those of one image
with the options of the YAML, counted as `metrics=[flops]` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from visionbench.config import ModelConfig, list_options
from visionbench.parts import find_adapter
from visionbench.report.published import SIZE, PublishedFigure, figures
from visionbench.stages.flops import copy_without_values, count

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
SIDE = 480, 640
"""Height and width of the image. The processor of the model resizes it."""
CAPTION = "a photo of a cat"
HEADER = ("model", "task", "parameters", "GFLOPs", "published parameters", "published GFLOPs", "source")
TEXT = """# Models

One YAML file each in `conf/model/`. The first line of each file is a command that uses it. `visionbench models` lists
them with the size of their weights; [extending](extending.md) describes how to add one.

Parameters and GFLOPs are counted from the architecture in the YAML file: one image of {width} × {height} pixels, which
the model's processor resizes, and the options of the file. A multiply-accumulate is two FLOPs, so the published
multiply-accumulates of timm are doubled. An encoder's figure is compared with the count of the encoder.

{table}

A dash marks models that read values to choose what they compute. Their FLOPs are counted when they are measured.

The published counts have two decimals of a million parameters and of a billion multiply-accumulates. timm also counts
small operations, such as normalisations, in some models. `convnextv2_tiny` is without its head here, and `mobilenet_v2`
has a class for the background.

`python scripts/model_counts.py` writes this page.
"""


@dataclass(frozen=True)
class Counts:
    """The parameters of a model, and the FLOPs of its parts for one image."""

    parameters: int
    gflops: dict[str, float]
    """By part; empty if the model reads values to choose what it computes."""

    def of(self, part: str) -> float | None:
        """Return the GFLOPs of a part, or of all parts."""
        if not self.gflops:
            return None
        return self.gflops[part] if part in self.gflops else sum(self.gflops.values())


def read(name: str) -> ModelConfig:
    """Return the configuration of a bundled model, with random weights."""
    values: dict[str, Any] = yaml.safe_load(list_options("model")[name].read_text("utf-8"))
    return ModelConfig(**{**values, "weights": "random"})


def count_model(model: ModelConfig) -> Counts:
    """Count a model with shapes only."""
    loaded = find_adapter(model).load(replace(model, attention=None), torch.device("meta"), torch.float32)
    parameters = sum(parameter.numel() for parameter in loaded.module.parameters())
    try:
        with torch.inference_mode():
            inputs = loaded.preprocess([Image.new("RGB", SIDE[::-1])], [CAPTION])
            work = count(loaded, copy_without_values(loaded), inputs)
            times = {name: part.times for name, part in loaded.parts(to_meta(inputs)).items()}
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
        return Counts(parameters, {})
    return Counts(parameters, {name: one.flop * times[name] / 1e9 for name, one in work.items()})


def to_meta(inputs: Any) -> dict[str, torch.Tensor]:
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in inputs.items()}


def models() -> list[str]:
    """Return the bundled models that are measured on this machine, sorted. A model at an endpoint has no counts."""
    return [name for name in sorted(list_options("model")) if read(name).family != "remote"]


def published(name: str) -> PublishedFigure | None:
    """Return the published size of a model, if there is one."""
    return next((one for one in figures() if one.kind == SIZE and one.model == name), None)


def rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each model of `models`."""
    for name in models():
        model = read(name)
        counts, figure = count_model(model), published(name)
        cells = [f"`{name}`", find_adapter(model).task, f"{counts.parameters:,}", number(counts.of(""))]
        if figure is None:
            yield (*cells, "", "", "")
            continue
        part = f" ({figure.part})" if figure.part in counts.gflops else ""
        if part:
            cells[3] += f"; {number(counts.of(figure.part))}{part}"
        source = f"[{figure.software}]({figure.source}): {figure.note}"
        yield (*cells, f"{figure.value:g} M{part}", f"{number(figure.gflop)}{part}", source)


def number(value: float | None) -> str:
    """Return a number with three digits or more, or a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def written() -> str:
    """Return the page."""
    lines = [HEADER, ("---", "---", "---:", "---:", "---:", "---:", "---"), *rows()]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return TEXT.format(table=table, height=SIDE[0], width=SIDE[1])


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
