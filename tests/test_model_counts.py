"""The parameters and FLOPs of every bundled model are as its YAML and docs/models.md state them, and as published."""

import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import model_counts  # noqa: E402

from visionbench.config import list_options  # noqa: E402

MODELS = model_counts.models()
PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
PUBLISHED = [name for name in MODELS if model_counts.published(name)]


@cache
def counts(name):
    return model_counts.count_model(model_counts.read(name))


def test_there_are_at_least_35_models_and_12_have_published_counts():
    assert len(MODELS) >= 35
    assert len(PUBLISHED) >= 12


@pytest.mark.parametrize("name", MODELS)
def test_the_yaml_and_the_page_state_the_parameters(name):
    parameters = f"{counts(name).parameters:,}"
    assert f"{parameters} parameters" in list_options("model")[name].read_text("utf-8")
    assert re.search(rf"^\| `{name}` \| [^|]+ \| {parameters} \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", MODELS)
def test_the_page_states_the_flops(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    assert row.split(" | ")[3].split(";")[0].strip() == model_counts.number(counts(name).of(""))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counts_agree_with_the_published_ones(name):
    """The sources round to two decimals. timm's models have the heads that two of ours do not have."""
    figure = model_counts.published(name)
    head = {"convnextv2_tiny": 769_000, "mobilenet_v2": -1281}.get(name, 0)
    if figure.part in ("", "both"):
        assert counts(name).parameters + head == pytest.approx(figure.value * 1e6, abs=0.006e6)
    assert counts(name).of(figure.part) == pytest.approx(figure.gflop, rel=0.015, abs=0.03)
