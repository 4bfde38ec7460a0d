"""Object detectors for classes that are given as text: OWL-ViT, OWLv2 and Grounding DINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from visionbench import weights
from visionbench.config import ModelConfig
from visionbench.core import ConfigError, Evaluator, Inputs, LoadedModel
from visionbench.registry import register
from visionbench.weights import HashedTokenizer, LoadedDetector
from visionbench.weights.detector import Boxes

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

QUERIES = ("person", "bicycle", "car", "dog", "chair", "bottle", "laptop", "book")


@register("models", "zero_shot_detector")
@dataclass
class ZeroShotDetector(weights.ImageFamily):
    """From images and class names to boxes with classes. Options: `queries`, the class names of a timed call;
    `template`, which converts a class name to the text of the model; `most_boxes`, the number of boxes of an image that
    are evaluated, from the highest score; and `image_size`, the side of its square images in pixels, null for the size
    of the checkpoint's image processor. For quality, the class names are those of the data."""

    queries: list[str] = field(default_factory=lambda: list(QUERIES))
    template: str = "{}"
    most_boxes: int = 100

    auto_class: ClassVar[str] = "AutoModelForZeroShotObjectDetection"
    task: ClassVar[str] = "object detection"
    names_classes: ClassVar[bool] = True
    """Whether classes are scored by texts with their names, so that the names must be words."""
    predicts: ClassVar[frozenset[str]] = frozenset({"boxes", "box_scores", "box_classes"})
    model_types: ClassVar[Mapping[str, str]] = {
        "grounding-dino": "GroundingDinoForObjectDetection",
        "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
        "owlv2": "Owlv2ForObjectDetection",
        "owlvit": "OwlViTForObjectDetection",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        weights.check_most_boxes(self.most_boxes)
        if not self.queries or not all(query.strip() for query in self.queries):
            raise ConfigError(
                f"model.options.queries={list(self.queries)}: not a list of class names", "give names, as in [cat, dog]"
            )
        if self.template.count("{}") != 1:
            raise ConfigError(
                f"model.options.template: '{self.template}' must contain {{}} once, as the place of the class name"
            )

    def load(self, model: ModelConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load an AutoModelForZeroShotObjectDetection with its image processor and its tokenizer, or a HashedTokenizer
        with random weights."""
        built = weights.build_model(model, self.auto_class, device, dtype, self.image_size)
        processor = weights.load_image_processor(model, built.source, self.image_size)
        tokenizer = None if built.source is None else weights.load_tokenizer(model, built)
        layout = LAYOUTS[built.module.config.model_type](built.module.config, tokenizer, self.template)
        texts = layout.encode(self.queries, "model.options.queries")
        identity = {
            **built.identity,
            **weights.describe_processor(processor),
            "tokenizer": HashedTokenizer.__name__ if tokenizer is None else type(tokenizer).__name__,
            "queries": list(self.queries),
            "template": self.template,
            "most_boxes": self.most_boxes,
        }
        return LoadedZeroShotDetector(
            built.module,
            dtype,
            processor,
            identity,
            most_boxes=self.most_boxes,
            image_inputs=weights.find_image_inputs(built.module, processor),
            layout=layout,
            texts=texts,
        )


@dataclass(frozen=True)
class Texts:
    """Class names as inputs of a model."""

    tensors: Mapping[str, Any]
    """Each [1, …], equal for all images."""
    spans: tuple[tuple[int, int], ...] = ()
    """First and last token + 1 of each class, if all classes are in one text."""


class Layout(Protocol):
    """The form in which a kind of model takes class names."""

    def encode(self, names: Sequence[str], source: str) -> Texts:
        """Return the class names as inputs. Raises ConfigError if they have too many tokens."""

    def flatten(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return inputs, whose first axis is the batch, in the shapes that the model takes."""

    def class_logits(self, logits: torch.Tensor, texts: Texts) -> torch.Tensor:
        """Return the logits [B, boxes, classes] of the model's logits [B, boxes, …]."""


@dataclass(frozen=True)
class TextPerClass:
    """Each class has a separate text, as in OWL-ViT."""

    config: Any
    tokenizer: Any
    template: str

    def encode(self, names: Sequence[str], source: str) -> Texts:
        """Return `input_ids` and `attention_mask` [1, classes, tokens]."""
        length = self.config.text_config.max_position_embeddings
        texts = [self.template.format(name) for name in names]
        if self.tokenizer is None:
            encoded = HashedTokenizer(self.config.text_config)(texts, max_length=length)
        else:
            longest = max(map(len, self.tokenizer(texts, truncation=False, padding=False)["input_ids"]))
            _check_tokens(longest, length, f"the longest text of {source}")
            encoded = self.tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
        return Texts({name: encoded[name][None] for name in ("input_ids", "attention_mask")})

    def flatten(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the texts of all images in one axis."""
        return {name: tensor.flatten(0, 1) if tensor.ndim == 3 else tensor for name, tensor in inputs.items()}

    def class_logits(self, logits: torch.Tensor, texts: Texts) -> torch.Tensor:
        """Return the logits unchanged."""
        return logits


@dataclass(frozen=True)
class OneText:
    """All classes are in one text, `cat. dog.`, as in Grounding DINO. The score of a class is the mean score of its
    tokens, as in the evaluation on COCO by the authors of Grounding DINO."""

    config: Any
    tokenizer: Any
    template: str

    BEGIN: ClassVar[int] = 101
    END: ClassVar[int] = 102
    DOT: ClassVar[int] = 1012
    """The special tokens of BERT, which the model looks for."""

    def encode(self, names: Sequence[str], source: str) -> Texts:
        """Return `input_ids`, `token_type_ids` and `attention_mask` [1, tokens]. A dot in a name becomes a space."""
        import torch

        ids, spans = [self.BEGIN], list[tuple[int, int]]()
        for name in names:
            words = self._tokenize(" ".join(self.template.format(name).lower().replace(".", " ").split()))
            spans.append((len(ids), len(ids) + len(words)))
            ids += [*words, self.DOT]
        ids.append(self.END)
        _check_tokens(len(ids), self.config.max_text_len, f"the text of the {len(names)} names of {source}")
        tokens = torch.tensor([ids])
        zeros, ones = torch.zeros_like(tokens), torch.ones_like(tokens)
        return Texts({"input_ids": tokens, "token_type_ids": zeros, "attention_mask": ones}, tuple(spans))

    def flatten(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the inputs unchanged."""
        return dict(inputs)

    def class_logits(self, logits: torch.Tensor, texts: Texts) -> torch.Tensor:
        """Return the logits of the mean scores over the tokens of each class."""
        import torch

        scores = logits.sigmoid()
        means = [scores[..., first:last].mean(dim=-1) for first, last in texts.spans]
        return torch.stack(means, dim=-1).logit(eps=1e-6)

    def _tokenize(self, text: str) -> list[int]:
        if self.tokenizer is not None:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids
        special = {self.BEGIN, self.END, self.DOT, 0}
        return [weights.hash_word(word, self.config.text_config.vocab_size, special) for word in text.split()]


LAYOUTS: Mapping[str, type[TextPerClass] | type[OneText]] = {
    "grounding-dino": OneText,
    "mm-grounding-dino": OneText,
    "owlv2": TextPerClass,
    "owlvit": TextPerClass,
}


@dataclass
class LoadedZeroShotDetector(LoadedDetector):
    """A zero-shot detector on its device. A call encodes the images and the class names."""

    layout: Any = None
    texts: Texts = field(default_factory=lambda: Texts({}))
    """The class names of a call."""

    def names(self) -> tuple[str, ...]:
        """Return the names of the inputs: those of the images, then those of the texts."""
        return (*self.image_inputs, *self.texts.tensors)

    def preprocess(self, images: Sequence[Image], captions: Sequence[str]) -> Inputs:
        """Return the inputs of the images, and those of the class names, once for each image."""
        inputs = dict(super().preprocess(images, captions))
        return inputs | {
            name: tensor.expand(len(images), *tensor.shape[1:]).clone() for name, tensor in self.texts.tensors.items()
        }

    def detect(self, module: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and the boxes. Logits of tokens that the text does not have are left out."""
        output = module(**self.layout.flatten(inputs))
        logits = output.logits
        if self.texts.spans:
            logits = logits[..., : inputs["input_ids"].shape[-1]]
        return logits, output.pred_boxes

    def find_boxes(self, logits: torch.Tensor, boxes: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
        """Return the boxes of each image in the size of the image; each box has the class of its highest score."""
        return super().find_boxes(self.layout.class_logits(logits, self.texts), boxes, sizes)

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> Evaluator:
        """Return an evaluator of the boxes of these classes.

        Raises ConfigError if their text is too long, or if a runtime executes the model with texts of another shape.
        """
        texts = self.layout.encode([name.replace("_", " ") for name in classes], "the classes of the data")
        shapes = [{name: tensor.shape for name, tensor in one.tensors.items()} for one in (texts, self.texts)]
        if self.executed and shapes[0] != shapes[1]:
            raise ConfigError(
                f"the runtime executes {self.identity['queries']} as class names, and the data has other classes",
                f"give them, as in model.options.queries=[{','.join(classes[:2])},…], or use runtime=eager",
            )
        model = replace(self, texts=texts)
        return weights.make_evaluator(model, classes, dict(enumerate(classes)), texts.tensors)


def _check_tokens(count: int, most: int, text: str) -> None:
    if count > most:
        raise ConfigError(f"{text} has {count} tokens, and the model takes {most}", "give fewer or shorter names")
