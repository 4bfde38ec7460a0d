"""Garbage collection while a store lists its runs."""

import gc

import pytest

from visionbench.commands import sync


def test_garbage_collection_is_paused_for_a_list_and_continues_after_an_error():
    with pytest.raises(ValueError, match="stop"), sync._without_garbage_collection():
        assert not gc.isenabled()
        raise ValueError("stop")
    assert gc.isenabled()
