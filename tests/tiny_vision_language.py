"""Vision-language models of small sizes: the YAML files of conf/ with another architecture, and saved checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from visionbench import weights
from visionbench.config import ModelConfig, models
from visionbench.core import LoadedModel
from visionbench.parts import find_adapter
from visionbench.weights.prompts import make_tokenizer

ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    **ENCODER,
    "vocab_size": 256,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "max_position_embeddings": 4096,
}
SIGLIP = {**ENCODER, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "vision_use_head": False}
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
ARCHITECTURES = {
    "smolvlm2_256m": {
        "model_type": "smolvlm",
        "image_token_id": 250,
        "scale_factor": 2,
        "vision_config": {**ENCODER, "image_size": 32, "patch_size": 8},
        "text_config": {**TEXT, "model_type": "llama"},
    },
    "qwen2_5_vl_3b": {
        "model_type": "qwen2_5_vl",
        "image_token_id": 250,
        "video_token_id": 251,
        "vision_config": {
            **{"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32},
            **{"patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]},
        },
        "text_config": {
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
    },
    "llava_onevision_0_5b": {
        "model_type": "llava_onevision",
        "image_token_index": 250,
        "video_token_index": 251,
        "image_grid_pinpoints": [[32, 32], [32, 64], [64, 32], [64, 64]],
        "vision_config": SIGLIP,
        "text_config": {**TEXT, "model_type": "qwen2"},
    },
    "florence2_base": {
        "model_type": "florence2",
        "image_token_id": 250,
        "vision_config": {
            **{"depths": [1, 1, 1, 1], "embed_dim": [8, 8, 8, 16], "num_heads": [1, 1, 1, 2]},
            **{"num_groups": [1, 1, 1, 2], "projection_dim": 32, "window_size": 4},
        },
        "text_config": {
            **{"model_type": "bart", "vocab_size": 256, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64},
            **{"decoder_ffn_dim": 64, "max_position_embeddings": 512, "decoder_start_token_id": 2},
            **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        },
    },
    "paligemma2_3b": {
        "model_type": "paligemma",
        "image_token_index": 250,
        "projection_dim": 32,
        "hidden_size": 32,
        "vision_config": SIGLIP,
        "text_config": {**TEXT, "model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 16},
    },
}
IMAGES = {
    "smolvlm2_256m": {
        "image_processor_type": "SmolVLMImageProcessor",
        "size": {"longest_edge": 96},
        "max_image_size": {"longest_edge": 32},
        **HALVES,
    },
    "qwen2_5_vl_3b": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 256, "longest_edge": 128 * 128},
        "patch_size": 8,
    },
    "llava_onevision_0_5b": {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_grid_pinpoints": [[32, 32], [32, 64], [64, 32], [64, 64]],
        **HALVES,
    },
    "florence2_base": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"height": 64, "width": 64},
        "do_center_crop": False,
        "image_seq_length": 5,
    },
    "paligemma2_3b": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_seq_length": 16,
        **HALVES,
    },
}
ARGUMENTS = {"smolvlm2_256m": {"image_seq_len": 4}, "llava_onevision_0_5b": {"num_image_tokens": 16}}
BASES = {"idefics3": "smolvlm2_256m", "qwen2_vl": "qwen2_5_vl_3b"}
"""Model types without a YAML in conf/, with the model from which the other values come."""
ARCHITECTURES["idefics3"] = {**ARCHITECTURES["smolvlm2_256m"], "model_type": "idefics3"}
ARCHITECTURES["qwen2_vl"] = {
    **ARCHITECTURES["qwen2_5_vl_3b"],
    "model_type": "qwen2_vl",
    "vision_config": {
        **{"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8},
    },
}
IMAGES["idefics3"] = {**IMAGES["smolvlm2_256m"], "image_processor_type": "Idefics3ImageProcessor"}
IMAGES["qwen2_vl"] = IMAGES["qwen2_5_vl_3b"]
ARGUMENTS["idefics3"] = ARGUMENTS["smolvlm2_256m"]
NAMES = tuple(ARCHITECTURES)
CHAT = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }} {% endfor %}{% endfor %}"
    "{{ 'assistant:' if add_generation_prompt }}"
)
"""A chat template."""


def small(name: str, **options: object) -> ModelConfig:
    """Return the YAML of a model in conf/ with random weights and smaller sizes."""
    model = models()[BASES.get(name, name)]
    model.weights, model.architecture, model.image_processor = "random", ARCHITECTURES[name], IMAGES[name]
    arguments = {**model.options.get("processor", {}), **ARGUMENTS.get(name, {})}
    model.options = {**model.options, "processor": arguments, **options}
    return model


def load(model: ModelConfig, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LoadedModel:
    """Load a model."""
    return find_adapter(model).load(model, torch.device(device), dtype)


def save(name: str, folder: Path, chat: bool = True) -> Path:
    """Save a small model with its processor as a checkpoint, and return the folder."""
    model = small(name)
    module = weights.build_model(model, "AutoModelForImageTextToText", torch.device("cpu"), torch.float32).module
    module.save_pretrained(folder)
    make_tokenizer(module.config).save_pretrained(folder)
    weights.load_image_processor(model, None).save_pretrained(folder)
    arguments = {key: value for key, value in model.options["processor"].items()}
    (folder / "processor_config.json").write_text(json.dumps(arguments))
    if chat:
        (folder / "chat_template.jinja").write_text(CHAT)
    return folder
