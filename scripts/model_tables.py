"""Write the table of model types in docs/extending.md from the families: python scripts/model_tables.py."""

from __future__ import annotations

import re
from pathlib import Path

from visionbench import weights
from visionbench.core import Connects
from visionbench.registry import find, names

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
HEADING = "\n### Model types\n"
TABLE = re.compile(r"^\|.*\n(?:\|.*\n)*", re.MULTILINE)


def written(page: str) -> str:
    """Return the page with the table below its heading written from the families."""
    before, heading, after = page.partition(HEADING)
    if not heading:
        raise SystemExit(f"docs/extending.md has no heading '{HEADING.strip()}'; add it")
    rows = ["| family | task | model types |", "|---|---|---|"]
    for family in names("models"):
        if not find("models", family).__module__.startswith("visionbench."):
            continue  # a family of a user
        types = ", ".join(f"`{kind}`" for kind in sorted(weights.known_models(family)))
        if issubclass(find("models", family), Connects):
            types = "a model at an endpoint; see [serving.md](serving.md#remote-endpoints)"
        types = types or "all that an Auto class of transformers builds"
        rows.append(f"| `{family}` | {find('models', family).task} | {types} |")
    return before + heading + TABLE.sub("\n".join(rows) + "\n", after, count=1)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
