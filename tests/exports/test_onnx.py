"""A converted part takes every batch size."""

import onnx
import pytest
import torch
from torch import nn

from visionbench.core import ConfigError
from visionbench.exports import to_onnx
from visionbench.weights import as_graph

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of torch.onnx


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def convert(size):
    """Convert a part that adds a row of numbers to each image of a batch, of which `size` returns the number."""
    torch.manual_seed(0)

    def forward(model, images):
        rows = model.weight.expand(size(images), -1)
        return images + rows, rows

    return to_onnx(as_graph(nn.Linear(4, 1).requires_grad_(False), forward), (torch.randn(2, 4),))


def test_the_first_axis_of_each_input_has_any_length():
    export = convert(lambda images: images.shape[0])
    graph = onnx.load(str(export.file), load_external_data=False).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert len(graph.output) == 2
    assert export.digest == export.file.parent.name


def test_a_part_whose_batch_size_becomes_a_constant_is_refused_and_not_kept(folder):
    with pytest.raises(ConfigError, match=r"cannot be converted to ONNX \(.*; use runtime=eager or runtime=compile"):
        convert(lambda images: int(images.shape[0]))
    assert not any(folder.iterdir())


def test_a_part_is_converted_again_after_a_change_of_the_file_that_defines_it(tmp_path):
    def convert_by(source):
        (tmp_path / "family.py").write_text(source)
        names = {}
        exec(compile(source, tmp_path / "family.py", "exec"), names)
        torch.manual_seed(0)
        return to_onnx(as_graph(nn.Linear(4, 4).requires_grad_(False), names["forward"]), (torch.randn(2, 4),))

    once = "def forward(model, images):\n    return model(images)\n"
    twice = "def forward(model, images):\n    return model(model(images))\n"
    first, again, other = convert_by(once), convert_by(once), convert_by(twice)
    assert first.seconds is not None and again.seconds is None and other.seconds is not None
    assert first.digest == again.digest != other.digest
