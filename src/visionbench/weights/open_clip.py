"""Checkpoints of open_clip: `open_clip_config.json` beside the weights. They are converted once, to transformers' CLIP.

The conversion renames the weights and keeps their values. A model that CLIP of transformers cannot describe, such as
one with a text encoder of another library, is refused with the key of its configuration.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig
from visionbench.core import ConfigError
from visionbench.exports import cache
from visionbench.weights.errors import one_line_errors
from visionbench.weights.location import (
    OPEN_CLIP,
    TOKENIZER_FILES,
    choose_open_clip_weights,
    refuse_pickled,
)

if TYPE_CHECKING:
    from torch import Tensor

VERSION = "1"
"""Version of the conversion: increase it if the same checkpoint would give other files."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""The normalisation of OpenAI's CLIP, which open_clip uses if the configuration gives none."""
RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}
READ = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
"""The keys of the configuration that the conversion reads, by section."""
WITHOUT_EFFECT = {
    "model_cfg": {"custom_text", "init_logit_scale", "nonscalar_logit_scale"},
    "vision_cfg": {"patch_dropout", "attn_pooler_queries", "attn_pooler_heads"},
    "text_cfg": {"pad_id", "eos_id", "hf_tokenizer_name"},
}
"""Keys that do not change the outputs of the models that are converted. The patches are only dropped in training."""
NEUTRAL = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable", "sin_cos_2d"), "proj_type": ("linear",)}
"""Values of other keys that describe what CLIP of transformers does. A key may also be null, false or 0."""
BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
PARAMETERS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
}
NORMALIZATIONS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
BLOCK_NAME = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def find_converted(folder: Path) -> Path | None:
    """Return the folder of the converted checkpoint, or None if it is not converted yet."""
    converted = cache.folder() / _entry_name(folder)
    return converted if converted.is_dir() else None


def convert(model: ModelConfig, folder: Path) -> Path:
    """Return the folder of the converted checkpoint; convert it at the first call. Raises ConfigError."""
    setting = f"model.checkpoint={model.checkpoint}"
    weights = choose_open_clip_weights({path.name for path in folder.iterdir()})
    if weights is None:
        raise ConfigError(f"{setting}: {folder} has {OPEN_CLIP}, but no weights of open_clip", "add them")
    refuse_pickled(model, weights)
    content = _read_config(setting, folder)
    config, processor = describe_model(setting, content["model_cfg"]), describe_processor(setting, content)
    converted, _ = cache.entry(
        _entry_name(folder), lambda draft: _write(model, setting, folder, weights, draft, config, processor)
    )
    return converted


def _entry_name(folder: Path) -> str:
    """Return the name of the cache entry of a checkpoint, from the path, size and time of change of its files."""
    states = [
        [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return f"open_clip-{hashlib.sha256(json.dumps([VERSION, states]).encode()).hexdigest()[:32]}"


def _write(
    model: ModelConfig,
    setting: str,
    folder: Path,
    weights: str,
    draft: Path,
    config: Mapping[str, Any],
    processor: Mapping[str, Any],
) -> None:
    """Write the converted checkpoint to an empty folder."""
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPConfig, CLIPModel
    from transformers.initialization import no_init_weights
    from transformers.utils import logging

    logging.disable_progress_bar()
    _write_tokenizer(setting, folder, draft)
    with one_line_errors(model, setting):
        if weights.endswith(".safetensors"):
            state = load_file(folder / weights)
        else:
            state = torch.load(folder / weights, map_location="cpu", weights_only=True)
        renamed = rename(setting, state)
        with no_init_weights():
            module = CLIPModel(CLIPConfig(**config))
        if difference := _find_difference(module.state_dict(), renamed):
            raise ConfigError(f"{setting}: {difference}", f"use {OPEN_CLIP} and weights of the same model")
        module.to(next(iter(renamed.values())).dtype).load_state_dict(renamed)
        module.save_pretrained(draft)
    (draft / "preprocessor_config.json").write_text(json.dumps(processor, indent=2), encoding="utf-8")


def _find_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """Return the first difference between the weights of a model and those of a checkpoint, or None."""
    if missing := sorted(set(expected) - set(given)):
        return f"its weights lack {missing[0]} of the model that {OPEN_CLIP} describes"
    if unknown := sorted(set(given) - set(expected)):
        return f"it contains {unknown[0]}, which the model of {OPEN_CLIP} does not have"
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            return f"{name} has the shape {list(tensor.shape)}, but {OPEN_CLIP} describes {list(expected[name].shape)}"
    return None


def _read_config(setting: str, folder: Path) -> dict[str, Any]:
    path = folder / OPEN_CLIP
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({str(error).rstrip('.')})", "fetch it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
        raise ConfigError(f"{setting}: {path} has no model_cfg, so its architecture is unknown", "fetch it again")
    return content


def describe_model(setting: str, model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of CLIP of transformers for a `model_cfg` of open_clip.

    Raises ConfigError for a key that CLIP of transformers does not have.
    """
    sections = {
        "model_cfg": model_cfg,
        "vision_cfg": model_cfg.get("vision_cfg") or {},
        "text_cfg": model_cfg.get("text_cfg") or {},
    }
    eps = {name: _read_eps(section) for name, section in sections.items()}
    for name, section in sections.items():
        for key, value in section.items():
            if key in READ[name] | WITHOUT_EFFECT[name] or (key == "norm_kwargs" and eps[name] is not None):
                continue
            if value and value not in NEUTRAL.get(key, ()):
                raise _unsupported(setting, f"{name}.{key}={value}")
    vision, text = sections["vision_cfg"], sections["text_cfg"]
    if not isinstance(vision.get("layers", 12), int):
        raise _unsupported(setting, f"vision_cfg.layers={vision['layers']}, a ResNet")
    if not isinstance(size := _as_side(vision.get("image_size", 224)), int):
        raise _unsupported(setting, f"vision_cfg.image_size={size}")
    if not isinstance(patch := _as_side(vision.get("patch_size", 16)), int):
        raise _unsupported(setting, f"vision_cfg.patch_size={patch}")
    activation = {"hidden_act": "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"}
    vision_width, text_width = vision.get("width", 768), text.get("width", 512)
    try:
        return {
            "projection_dim": int(model_cfg["embed_dim"]),
            "vision_config": {
                **activation,
                "layer_norm_eps": eps["vision_cfg"] or 1e-5,
                "projection_dim": int(model_cfg["embed_dim"]),
                "hidden_size": vision_width,
                "intermediate_size": int(vision_width * vision.get("mlp_ratio", 4.0)),
                "num_hidden_layers": vision.get("layers", 12),
                "num_attention_heads": vision_width // vision.get("head_width", 64),
                "image_size": size,
                "patch_size": patch,
            },
            "text_config": {
                **activation,
                "layer_norm_eps": eps["text_cfg"] or 1e-5,
                "projection_dim": int(model_cfg["embed_dim"]),
                "hidden_size": text_width,
                "intermediate_size": int(text_width * text.get("mlp_ratio", 4.0)),
                "num_hidden_layers": text.get("layers", 12),
                "num_attention_heads": text.get("heads", 8),
                "max_position_embeddings": text.get("context_length", 77),
                "vocab_size": text.get("vocab_size", 49408),
                "bos_token_id": 0,
                "eos_token_id": 2,  # transformers then pools at the token with the highest id, as open_clip does
                "pad_token_id": 1,
            },
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{setting}: {OPEN_CLIP} is not complete ({error!r})", "fetch it again") from None


def describe_processor(setting: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image processor of transformers for the `preprocess_cfg` of open_clip. Raises ConfigError."""
    given = content.get("preprocess_cfg") or {}
    size = _as_side((content["model_cfg"].get("vision_cfg") or {}).get("image_size", 224))
    mode, interpolation = given.get("resize_mode") or "shortest", given.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash"):
        raise _unsupported(setting, f"preprocess_cfg.resize_mode={mode}")
    if interpolation not in RESAMPLING:
        raise _unsupported(setting, f"preprocess_cfg.interpolation={interpolation}")
    square = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if mode == "shortest" else square,
        "do_center_crop": mode == "shortest",
        "crop_size": square,
        "resample": RESAMPLING[interpolation],
        "do_convert_rgb": True,
        "do_normalize": True,
        "image_mean": list(given.get("mean") or MEAN),
        "image_std": list(given.get("std") or STD),
    }


def rename(setting: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of open_clip with the names and shapes of CLIP of transformers. Raises ConfigError."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix("text.")
        layer, _, parameter = short.rpartition(".")
        if short == "attn_mask":
            continue
        if short == "logit_scale":
            renamed[short] = tensor.reshape(())
        elif short in PARAMETERS:
            renamed[PARAMETERS[short]] = tensor
        elif layer in NORMALIZATIONS:
            renamed[f"{NORMALIZATIONS[layer]}.{parameter}"] = tensor
        elif short in PROJECTIONS:
            renamed[PROJECTIONS[short]] = tensor.T.contiguous()
        elif match := BLOCK_NAME.fullmatch(short):
            prefix = f"{'vision' if match[1] else 'text'}_model.encoder.layers.{match[2]}"
            inner, _, parameter = match[3].rpartition(".")
            if inner == "attn" and parameter in ("in_proj_weight", "in_proj_bias"):
                kind = parameter.removeprefix("in_proj_")
                for part, piece in zip(("q", "k", "v"), tensor.chunk(3), strict=True):
                    renamed[f"{prefix}.self_attn.{part}_proj.{kind}"] = piece.contiguous()
            elif inner in BLOCK:
                renamed[f"{prefix}.{BLOCK[inner]}.{parameter}"] = tensor
            else:
                raise _unsupported(setting, f"the weight {name}")
        else:
            raise _unsupported(setting, f"the weight {name}")
    return renamed


def _write_tokenizer(setting: str, folder: Path, draft: Path) -> None:
    """Copy the files of the tokenizer, or write them from the vocabulary in the package open_clip.

    Raises ConfigError if neither exists.
    """
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        for path in folder.iterdir():
            if path.name in (*TOKENIZER_FILES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
                shutil.copy(path, draft / path.name)
        return
    package = importlib.util.find_spec("open_clip")
    merges = Path(package.origin or "").parent / "bpe_simple_vocab_16e6.txt.gz" if package else None
    if merges is None or not merges.is_file():
        raise ConfigError(
            f"{setting}: {folder} has no tokenizer ({TOKENIZER_FILES[0]})",
            "add the files of the tokenizer, or pip install 'visionbench[open-clip]' for the one of open_clip",
        )
    vocabulary, pairs = read_vocabulary(merges)
    (draft / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (draft / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
    (draft / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}), encoding="utf-8")


def read_vocabulary(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the tokens with their ids and the merges in open_clip's file of merges, as its tokenizer reads it."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    pairs = lines[1 : 49152 - 256 - 2 + 1]
    letters = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [chr(256 + index) for index in range(256 - len(letters))]
    symbols = [*map(chr, letters), *others]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair.split()) for pair in pairs)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, pairs


def _read_eps(section: Mapping[str, Any]) -> float | None:
    """Return the epsilon of the normalisations if the section gives only this of their options."""
    options = section.get("norm_kwargs")
    return options["eps"] if isinstance(options, dict) and set(options) == {"eps"} else None


def _as_side(value: Any) -> Any:
    """Return the side of a square that is written as a pair."""
    return value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value


def _unsupported(setting: str, key: str) -> ConfigError:
    return ConfigError(
        f"{setting}: {OPEN_CLIP} describes a model that CLIP of transformers does not have ({key})",
        "export it to transformers' format with another tool, or choose another checkpoint",
    )
