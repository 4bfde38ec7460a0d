"""A quiet window switches gradients and garbage collection off, and restores both."""

import gc

import pytest
import torch

from visionbench.stages.windows import quiet


@pytest.fixture
def collecting():
    yield gc.enable
    gc.enable()


def test_a_window_has_no_garbage_collection_and_no_gradients():
    with quiet():
        assert not gc.isenabled()
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
def test_after_a_window_garbage_collection_is_as_before(switch, collecting):
    switch()
    before = gc.isenabled()
    with quiet():
        pass
    assert gc.isenabled() is before
    assert gc.get_freeze_count() == 0


def test_an_error_ends_the_window(collecting):
    with pytest.raises(MemoryError), quiet():
        raise MemoryError
    assert gc.isenabled()
    assert not torch.is_inference_mode_enabled()
