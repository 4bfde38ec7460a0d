"""Checkpoints: find them on this machine, fetch them, and build a model from one or from random numbers.

A checkpoint is a repository on the Hugging Face Hub at a pinned revision, a local folder, or `bundled:NAME`. Code from
a checkpoint runs only with `model.trust_remote_code`. Pickled weights are read only with `model.pickled_weights`, by
torch's restricted unpickler.
"""

from visionbench.weights.architecture import (
    build_config,
    count_checkpoint_parameters,
    count_parameters,
    transformers_modules,
)
from visionbench.weights.attention import ATTENTION
from visionbench.weights.auto_classes import auto_class_for, auto_class_of, auto_classes
from visionbench.weights.building import CHANNELS_LAST, BuiltModel, build_model, count_convolutions, find_revision
from visionbench.weights.checkpoint_classes import list_class_names, read_class_names
from visionbench.weights.detector import LoadedDetector, check_most_boxes, find_image_inputs, make_evaluator
from visionbench.weights.fetching import ensure_checkpoint, fetch_checkpoint, fetch_description, obtain_checkpoint
from visionbench.weights.graphs import as_graph
from visionbench.weights.hashed_tokenizer import HashedTokenizer, hash_word
from visionbench.weights.identification import Description, check_family, describe, known_models, prepare_architecture
from visionbench.weights.image_model import PIXELS, ImageFamily, LabelledImageFamily, LoadedImageModel
from visionbench.weights.image_size import check_image_size, describe_border
from visionbench.weights.location import find_checkpoint, has_files, local_folder
from visionbench.weights.map_model import LoadedMapModel, MapEvaluator, load_processors
from visionbench.weights.processors import (
    check_length,
    describe_processor,
    image_processor_of,
    least_size,
    levels,
    load_image_processor,
    load_tokenizer,
)
from visionbench.weights.prompts import (
    STAND_IN,
    chat_template,
    default_template,
    load_prompt_processor,
    read_arguments,
    render_chat,
)
from visionbench.weights.quantization import METHODS as QUANTIZATIONS
from visionbench.weights.quantization import kernel_doubts, quantize
from visionbench.weights.quantization import why_unavailable as why_no_quantization
from visionbench.weights.state import describe_state
from visionbench.weights.tensors import count_bytes, place_inputs

__all__ = [
    "ATTENTION",
    "CHANNELS_LAST",
    "PIXELS",
    "QUANTIZATIONS",
    "STAND_IN",
    "BuiltModel",
    "Description",
    "HashedTokenizer",
    "LoadedDetector",
    "ImageFamily",
    "LabelledImageFamily",
    "LoadedImageModel",
    "LoadedMapModel",
    "MapEvaluator",
    "as_graph",
    "auto_class_for",
    "auto_class_of",
    "auto_classes",
    "build_config",
    "build_model",
    "chat_template",
    "check_family",
    "check_image_size",
    "check_length",
    "check_most_boxes",
    "count_bytes",
    "count_checkpoint_parameters",
    "count_convolutions",
    "count_parameters",
    "default_template",
    "describe",
    "describe_border",
    "describe_processor",
    "describe_state",
    "ensure_checkpoint",
    "fetch_checkpoint",
    "fetch_description",
    "find_checkpoint",
    "find_image_inputs",
    "find_revision",
    "has_files",
    "hash_word",
    "image_processor_of",
    "kernel_doubts",
    "known_models",
    "least_size",
    "levels",
    "list_class_names",
    "load_image_processor",
    "load_prompt_processor",
    "load_processors",
    "load_tokenizer",
    "local_folder",
    "make_evaluator",
    "obtain_checkpoint",
    "place_inputs",
    "prepare_architecture",
    "quantize",
    "read_arguments",
    "read_class_names",
    "render_chat",
    "transformers_modules",
    "why_no_quantization",
]
