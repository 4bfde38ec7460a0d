"""Compare the outputs of converted checkpoints with those of open_clip itself: python benchmarks/open_clip_parity.py

It needs the extra open-clip. Each model has random weights, is saved in the form that open_clip pushes to the Hub, and
is loaded from this folder by visionbench. Both get the same images and texts, once as the same tensors, and once as
images and sentences through their own preprocessing.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import open_clip
import torch
from open_clip.factory import add_model_config
from open_clip.push_to_hf_hub import save_config_for_hf
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.models.dual_encoder import DualEncoder

TEXTS = ["a photo of a temple, below a blue sky", "Two RED flowers!", "it's 3 o'clock", "a", "word " * 100]
MODELS = {
    "ViT-B-32": {},
    "ViT-B-32-quickgelu": {},
    "ViT-B-16-plus-240": {},
    "small": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 96,
            "layers": 3,
            "width": 128,
            "head_width": 32,
            "patch_size": 16,
            "mlp_ratio": 3.0,
        },
        "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 96, "heads": 3, "layers": 2},
        "quick_gelu": True,
        "custom_text": True,
    },
}


def save(name: str, folder: Path) -> tuple[torch.nn.Module, object]:
    """Save a model with random weights as open_clip saves it; return it with its preprocessing."""
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", open_clip.get_model_config(name))
    return model.eval(), preprocess


def compare(name: str, folder: Path) -> dict[str, float]:
    """Return the largest differences between open_clip and visionbench, relative to the largest output."""
    reference, preprocess = save(name, folder)
    model = ModelConfig(name="m", family="dual_encoder", checkpoint=str(folder), options={})
    weights.obtain_checkpoint(model)
    length = reference.context_length
    loaded = DualEncoder(text_tokens=length).load(model, torch.device("cpu"), torch.float32)
    images = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    tokens = open_clip.get_tokenizer(name)(TEXTS, context_length=length)
    pixels = torch.stack([preprocess(image) for image in images])
    own = loaded.preprocess(images, TEXTS[: len(images)])
    text_inputs = [loaded.preprocess(images[:1], [text])["input_ids"] for text in TEXTS]
    with torch.inference_mode():
        expected_images, expected_texts = reference.encode_image(pixels), reference.encode_text(tokens)
        same = loaded.module.get_image_features(pixels).pooler_output
        ours = loaded.module.get_image_features(own["pixel_values"]).pooler_output
        same_texts = loaded.module.get_text_features(tokens).pooler_output
        texts = torch.cat([loaded.module.get_text_features(ids).pooler_output for ids in text_inputs])
    return {
        "image, same pixels": difference(same, expected_images),
        "image, own preprocessing": difference(ours, expected_images),
        "pixels": (own["pixel_values"] - pixels).abs().max().item(),
        "text, same tokens": difference(same_texts, expected_texts),
        "text, own tokenizer": difference(texts, expected_texts),
    }


def difference(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.environ["VISIONBENCH_CACHE"] = str(Path(place) / "cache")
        for name, config in MODELS.items():
            if config:
                path = Path(place) / f"{name}.json"
                path.write_text(json.dumps(config))
                add_model_config(path)
            print(name, {key: f"{value:.1e}" for key, value in compare(name, Path(place) / name).items()}, flush=True)


if __name__ == "__main__":
    main()
