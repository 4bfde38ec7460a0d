"""Print the lowest versions that pyproject.toml allows, as a constraints file for pip.

python scripts/lowest.py > lowest.txt && make test CONSTRAINTS=lowest.txt
"""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """Return `name==version` for each requirement `name>=version,…`. Raise ValueError if one has no lower bound."""
    pins = []
    for requirement in requirements:
        bound = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement)
        if bound is None:
            raise ValueError(f"{requirement}: no lower bound; write it as name>=version")
        pins.append(f"{bound[1]}=={bound[2]}")
    return pins


if __name__ == "__main__":
    print(*lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]), sep="\n")
