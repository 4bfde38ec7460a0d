"""References in a configuration are limited by the values that they resolve to."""

import pytest
from omegaconf import Container, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from visionbench.references import CHARACTERS, MOST_VALUES, OF_A_TEXT, TOO_MANY_REFERENCES, limited_references


def resolved(value, count):
    return OmegaConf.to_container(OmegaConf.create({"a": value, "b": ["${a}"] * count}), resolve=True)


@pytest.mark.parametrize(
    ("value", "size"),
    [("x", 1), (7, 1), (None, 1), ("x" * 50 * CHARACTERS, 51), (["x"] * 30, 31), ({"a": ["x"] * 30}, 32)],
    ids=["text", "number", "null", "long text", "list", "mapping"],
)
def test_the_number_of_references_depends_on_the_values_that_they_resolve_to(value, size):
    most = MOST_VALUES // (OF_A_TEXT + size)
    with limited_references():
        assert resolved(value, most)["b"] == [value] * most
        with pytest.raises(InterpolationResolutionError, match=TOO_MANY_REFERENCES) as caught:
            resolved(value, most + 1)
    assert caught.value.full_key == f"b[{most}]"


def test_the_references_of_each_configuration_are_counted_separately():
    with limited_references():
        for _ in range(10):
            assert resolved("x", 100)["b"] == ["x"] * 100


def test_references_are_not_limited_afterwards():
    method = Container.resolve_parse_tree
    with pytest.raises(ZeroDivisionError), limited_references():
        assert Container.resolve_parse_tree is not method
        raise ZeroDivisionError
    assert Container.resolve_parse_tree is method
