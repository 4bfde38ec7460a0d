"""Loader processes: they give the batches of threads, and a process that fails is one line."""

import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from visionbench.core import ConfigError, Example
from visionbench.decoders.simplejpeg import SimpleJpeg
from visionbench.models.image_classifier import LoadedClassifier
from visionbench.stages.decoding import Decoding
from visionbench.stages.loader_processes import LoaderError, LoaderProcesses, images_of

SMALL = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


@pytest.fixture
def examples(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("0.jpg", "1.jpg", "2.png", "3.jpg", "4.jpg")]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 255, (40 + number, 60, 3), np.uint8)).save(path)
    return [Example(path.stem, path, masks=lambda: None) for path in paths]


def classifier():
    """A classifier whose weights cannot be sent to a process, because a lambda cannot be pickled."""
    return LoadedClassifier(lambda: None, torch.float32, CLIPImageProcessorPil(**SMALL), {}, {"image": lambda: None})


def test_batches_are_those_of_this_process_in_any_order(examples):
    model = classifier()
    decoding = Decoding("simplejpeg", SimpleJpeg())
    with LoaderProcesses.start(model, decoding, examples[0], 2) as processes:
        assert processes.start_s > 0
        for size in (1, 2, 5, 3):
            loaded, tensors = processes.load(examples[:size])
            expected = model.preprocess([Decoding().decode(example) for example in examples[:size]], [])
            assert list(tensors) == ["pixel_values"]
            assert torch.equal(tensors["pixel_values"], expected["pixel_values"])
            assert [image.size for image in images_of(loaded)] == [(60, 40 + number) for number in range(size)]
            assert loaded.left_to_pillow == ({"2": "PNG"} if size > 2 else {})
            assert set(loaded.seconds) == {"read", "decode", "preprocess"}
        first, tensors = processes.load(examples[:1]), processes.load(examples[3:4])[1]
        assert not torch.equal(first[1]["pixel_values"], tensors["pixel_values"])  # copies, not the shared memory
        started = [one.process for one in processes.processes]
    assert [process.poll() for process in started] == [0, 0]


def test_an_image_that_cannot_be_decoded_is_an_error_and_the_process_continues(examples):
    with LoaderProcesses.start(classifier(), Decoding(), examples[0], 1) as processes:
        examples[1].image.write_bytes(b"no image")
        with pytest.raises(LoaderError, match=r"1\.jpg: cannot be decoded"):
            processes.load(examples[:2])
        assert len(processes.load(examples[:1])[1]["pixel_values"]) == 1


def test_a_process_that_was_killed_is_an_error(examples):
    with LoaderProcesses.start(classifier(), Decoding(), examples[0], 1) as processes:
        os.kill(processes.processes[0].process.pid, signal.SIGKILL)
        with pytest.raises(LoaderError, match="a loader process ended with exit code -9"):
            processes.load(examples[:1])


@dataclass
class NeedsWeights:
    module: object = field(default_factory=lambda: SimpleNamespace(scale=2.0))

    def preprocess(self, images, captions):
        return {"pixel_values": torch.ones(len(images)) * self.module.scale}


def test_a_model_that_preprocesses_with_its_weights_is_refused_in_one_line(examples, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    import test_loader_processes  # a module that a process can import

    with pytest.raises(ConfigError) as caught:
        LoaderProcesses.start(test_loader_processes.NeedsWeights(), Decoding(), examples[0], 1)
    assert str(caught.value) == (
        "measure.pipeline.processes=true: other processes cannot load the images of this model (AttributeError: "
        "'NoneType' object has no attribute 'scale'); use measure.pipeline.processes=false"
    )


def test_a_model_that_cannot_be_pickled_is_refused_in_one_line(examples):
    model = classifier()
    model.processor = lambda images: None
    with pytest.raises(ConfigError, match="other processes cannot load the images of this model"):
        LoaderProcesses.start(model, Decoding(), examples[0], 1)
