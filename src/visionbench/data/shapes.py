"""The bundled data set: captioned images of two coloured shapes, rendered from a seed.

A composition is two different objects (size, colour, shape) and their relation: the first is left of, or above, the
second. There are 12,640 compositions, with a fixed division into train, validation and test, so that no composition of
the test split is used to train a model, for any seed. The seed varies the properties that the captions do not describe:
position, exact size, shade and noise.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import permutations, product
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from visionbench.core import Box, ConfigError, DataClass, Example, Question
from visionbench.datafiles.class_maps import read_mapped
from visionbench.datafiles.depth_maps import read_depth
from visionbench.datafiles.images import PictureError, read_numbered_masks
from visionbench.registry import nearest, register

VERSION = "1"
"""Version of the generator: increase it if the same options would give other images, captions or splits."""

RADII = {"small": 0.1, "large": 0.175}
"""Half the width of an object, as a fraction of the image's side."""
SYNONYMS = {"small": "tiny", "large": "big"}
COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 145, 25),
    "yellow": (245, 235, 60),
    "green": (40, 165, 60),
    "cyan": (60, 215, 225),
    "blue": (55, 80, 225),
    "purple": (155, 50, 190),
    "white": (245, 245, 245),
}
SHAPES = ("ring", "square", "triangle", "cross", "star")
MAP_CLASSES = ("background", *SHAPES)
"""The classes of the pixels."""
LABELS = tuple(f"{a} and {b}" for i, a in enumerate(SHAPES) for b in SHAPES[i:])
RELATIONS = ("left of", "above")
TEMPLATES = {
    "left of": (
        "a {a} to the left of a {b}",
        "a {b} to the right of a {a}",
        "the {a} is on the left and the {b} is on the right",
        "there is a {other_b} right of a {other_a}",
        "on the left a {other_a}, on the right a {other_b}",
    ),
    "above": (
        "a {a} above a {b}",
        "a {b} below a {a}",
        "the {a} is at the top and the {b} is at the bottom",
        "there is a {other_b} underneath a {other_a}",
        "at the top a {other_a}, at the bottom a {other_b}",
    ),
}
PLACES = {"left of": ("on the left", "on the right"), "above": ("at the top", "at the bottom")}
"""The places of the first and the second object, by their relation."""
POSITIONS = {"left of": ("left", "right"), "above": ("top", "bottom")}
REPEATS = 10
"""How often each question has its answer: VQA accuracy is defined for the answers of ten people."""
HELD_OUT = 1000
"""Number of compositions in the validation split, and in the test split."""
SPLITS = ("train", "validation", "test")
SUPERSAMPLING = 4
FOG, FOG_LENGTH = (190, 200, 210), 6.0
"""The colour of the fog, and the distance in metres at which 37 % of the light of an object remains."""
DEPTH_SCALE = 1000.0
"""The number in a depth map that is one metre."""

Pixels = npt.NDArray[np.uint8]


class ShapeObject(NamedTuple):
    """One object of an image."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        """Return its words, such as `small red ring`."""
        return " ".join(self)


class Composition(NamedTuple):
    """The content of an image: `first` is left of, or above, `second`."""

    first: ShapeObject
    second: ShapeObject
    relation: str

    def __str__(self) -> str:
        """Return its unique name, such as `small red ring above large blue star`."""
        return f"{self.first} {self.relation} {self.second}"

    @property
    def captions(self) -> tuple[str, ...]:
        """Five paraphrases. Each names both objects and their relation, so that it describes no other composition."""
        other_a, other_b = (one._replace(size=SYNONYMS[one.size]) for one in (self.first, self.second))
        words = {"a": self.first, "b": self.second, "other_a": other_a, "other_b": other_b}
        return tuple(template.format(**words) for template in TEMPLATES[self.relation])

    @property
    def questions(self) -> tuple[Question, ...]:
        """Four questions: a colour, a shape, a position and a size. Each has one answer, which the image shows.

        A digest of the composition selects the object of each question, so that each is chosen equally often.
        """
        digest = hashlib.sha256(f"questions {self}".encode()).digest()
        chosen = [bit % 2 for bit in digest[:4]]
        objects, places, positions = (self.first, self.second), PLACES[self.relation], POSITIONS[self.relation]
        answers = {
            f"What colour is the object {places[chosen[0]]}?": objects[chosen[0]].colour,
            f"What shape is the object {places[chosen[1]]}?": objects[chosen[1]].shape,
            f"Where is the {objects[chosen[2]]}: {' or '.join(positions)}?": positions[chosen[2]],
            f"Is the object {places[chosen[3]]} small or large?": objects[chosen[3]].size,
        }
        return tuple(Question(text, (answer,) * REPEATS) for text, answer in answers.items())

    @property
    def label(self) -> str:
        """The two shapes, in the order of SHAPES: one of 15 classes, such as `ring and square`."""
        return " and ".join(sorted((self.first.shape, self.second.shape), key=SHAPES.index))


@cache
def compositions(split: str) -> tuple[Composition, ...]:
    """Return all compositions of a split, in a fixed order that is independent of the seed and of library versions."""
    objects = [ShapeObject(*words) for words in product(RADII, COLOURS, SHAPES)]
    every = [Composition(a, b, relation) for (a, b), relation in product(permutations(objects, 2), RELATIONS)]
    every.sort(key=lambda composition: hashlib.sha256(str(composition).encode()).digest())
    first, second = HELD_OUT, 2 * HELD_OUT
    return tuple({"test": every[:first], "validation": every[first:second], "train": every[second:]}[split])


def render(composition: Composition, seed: int, size: int) -> tuple[Pixels, Pixels]:
    """Return the image (size, size, 3) and its mask (size, size): 0 background, 1 the first object, 2 the second."""
    entropy = int.from_bytes(hashlib.sha256(f"{VERSION} {composition}".encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, entropy])
    shade = rng.uniform(20, 80) + rng.uniform(-8, 8, size=3)
    image = np.broadcast_to(shade, (size, size, 3)).copy()
    mask = np.zeros((size, size), np.uint8)
    for number, one in enumerate((composition.first, composition.second), start=1):
        along = (0.26, 0.74)[number - 1] + rng.uniform(-0.04, 0.04)
        across = 0.5 + rng.uniform(-0.08, 0.08)
        centre = (along, across) if composition.relation == "left of" else (across, along)
        coverage = _draw_coverage(one.shape, centre, RADII[one.size] * rng.uniform(0.93, 1.07), size)
        colour = np.asarray(COLOURS[one.colour]) + rng.uniform(-10, 10, size=3)
        image += (colour - image) * (coverage[..., None] / 255)
        mask[coverage > 127] = number
    image += rng.normal(0, 4, size=image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


def add_depth(image: Pixels, mask: Pixels, composition: Composition, seed: int) -> tuple[Pixels, npt.NDArray[Any]]:
    """Return an image (size, size, 3) in a fog, and the depth of its pixels (size, size) in metres.

    The background is a slope that is far at the top and near at the bottom. Each object has one depth, in front of it.
    The light of a pixel that is d metres away is its colour · exp(-d / FOG_LENGTH) and the rest the colour of the fog.
    """
    entropy = int.from_bytes(hashlib.sha256(f"depth {VERSION} {composition}".encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, entropy])
    top, bottom = rng.uniform(9, 12), rng.uniform(5, 7)
    depth = np.broadcast_to(np.linspace(top, bottom, len(image))[:, None], mask.shape).copy()
    for number in (1, 2):
        depth[mask == number] = rng.uniform(1, 4.5)
    light = np.exp(-depth / FOG_LENGTH)[..., None]
    foggy = np.asarray(FOG) + (image - np.asarray(FOG, np.float64)) * light
    return np.clip(np.rint(foggy), 0, 255).astype(np.uint8), depth


def save_jpeg(image: Pixels, file: Path | IO[bytes]) -> None:
    """Write an image to a path or a binary file, with the data set's quality."""
    Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)


@register("data", "shapes")
@dataclass(frozen=True)
class Shapes:
    """Images of a split, rendered into `cache_dir` at first use. Raises ConfigError for options out of range."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"captions", "labels", "masks", "boxes", "class_map", "depth", "questions"}
    )

    split: str = "test"
    samples: int = 1000
    """Number of compositions, from the first of the split; each gives one image."""
    seed: int = 0
    size: int = 64
    """Pixels of each side."""
    cache_dir: str = "data/cache"
    depth: bool = False
    """Whether the images have a depth, which a fog shows, and depth maps."""

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        if self.split not in SPLITS:
            raise ConfigError(f"data.options.split: shapes has no split '{self.split}'{nearest(self.split, SPLITS)}")
        available = len(compositions(self.split))
        for option, least, most in (("samples", 1, available), ("seed", 0, 2**32 - 1), ("size", 32, 1024)):
            value = getattr(self, option)
            if type(value) is not int or not least <= value <= most:
                known = f"; the {self.split} split has {available} images" if option == "samples" else ""
                raise ConfigError(
                    f"data.options.{option}: {value!r} is not a whole number from {least} to {most}{known}"
                )

    @property
    def folder(self) -> Path:
        """The folder of the images with exactly these options, which may not exist yet."""
        options = f"{VERSION} {self.split} {self.samples} {self.seed} {self.size}{' depth' if self.depth else ''}"
        return Path(self.cache_dir) / f"shapes-{hashlib.sha256(options.encode()).hexdigest()[:12]}" / self.split

    def examples(self) -> tuple[Example, ...]:
        """Return the images in the order of the split. The first call renders them, about 1,000 per second."""
        if not self.folder.exists():
            self._render()
        return _read_examples(self.folder, self._annotations())

    def other_images(self, count: int) -> Shapes:
        """Return images of the training split, or of the validation split if these are images of the training split."""
        split = "validation" if self.split == "train" else "train"
        return replace(self, split=split, samples=min(count, len(compositions(split))))

    def classes(self) -> tuple[str, ...]:
        """Return the 15 pairs of shapes."""
        return LABELS

    def box_classes(self) -> tuple[DataClass, ...]:
        """Return the five shapes."""
        return tuple(DataClass(shape) for shape in SHAPES)

    def map_classes(self) -> tuple[DataClass, ...]:
        """Return the background and the five shapes."""
        return tuple(DataClass(name) for name in MAP_CLASSES)

    def absent_annotations(self) -> Mapping[str, str]:
        """Return the depth, if the images have none."""
        return {} if self.depth else {"depth": "its images have no depth; data.options.depth=true renders others"}

    def identity(self) -> Mapping[str, str]:
        """Return the options that determine the images, and a digest of the annotations. Renders them if necessary."""
        if not self.folder.exists():
            self._render()
        return {
            "name": "shapes",
            "split": self.split,
            "samples": str(self.samples),
            "seed": str(self.seed),
            "size": str(self.size),
            "generator": VERSION,
            **({"depth": "true"} if self.depth else {}),
            "annotations_sha256": hashlib.sha256(self._annotations()).hexdigest(),
        }

    def _annotations(self) -> bytes:
        try:
            return (self.folder / "annotations.jsonl").read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}", f"delete {self.folder} to render it again") from error

    def _render(self) -> None:
        """Render beside the final folder and rename it. If two processes render at once, the first result is kept."""
        unfinished = self.folder.with_name(f".{self.split}-{uuid.uuid4().hex}")
        try:
            for part in ("images", "masks", *(["depth"] if self.depth else [])):
                (unfinished / part).mkdir(parents=True)
            chosen = compositions(self.split)[: self.samples]
            rows = [self._write(unfinished, index, composition) for index, composition in enumerate(chosen)]
            (unfinished / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            try:
                os.rename(unfinished, self.folder)
            except OSError:
                if not self.folder.exists():
                    raise
        except OSError as error:
            raise ConfigError(f"data.options.cache_dir: cannot write to '{self.cache_dir}' ({error})") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _write(self, folder: Path, index: int, composition: Composition) -> dict[str, object]:
        image, mask = render(composition, self.seed, self.size)
        image_file, mask_file, depth_file = (
            f"images/{index:05d}.jpg",
            f"masks/{index:05d}.png",
            f"depth/{index:05d}.png",
        )
        if self.depth:
            image, depth = add_depth(image, mask, composition, self.seed)
            Image.fromarray(np.rint(depth * DEPTH_SCALE).astype(np.uint16)).save(folder / depth_file)
        save_jpeg(image, folder / image_file)
        Image.fromarray(mask).save(folder / mask_file)
        return {
            "id": f"{self.split}-{index:05d}",
            "image": image_file,
            "mask": mask_file,
            **({"depth": depth_file} if self.depth else {}),
            "captions": composition.captions,
            "label": composition.label,
            "composition": [*composition.first, composition.relation, *composition.second],
        }


@lru_cache(maxsize=4)
def _read_examples(folder: Path, annotations: bytes) -> tuple[Example, ...]:
    """Return the examples that the lines of an annotation file describe, with boxes from the masks."""
    return tuple(_make_example(folder, json.loads(line)) for line in annotations.splitlines())


def _make_example(folder: Path, row: dict[str, Any]) -> Example:
    shapes = [word for word in row["composition"] if word in SHAPES]
    try:
        masks = read_numbered_masks(folder / row["mask"])
    except PictureError as error:
        raise ConfigError(str(error), f"delete {folder} to render it again") from error
    return Example(
        id=row["id"],
        image=folder / row["image"],
        captions=tuple(row["captions"]),
        label=row["label"],
        masks=partial(read_numbered_masks, folder / row["mask"]),
        instances=2,
        questions=_read_composition(row["composition"]).questions,
        boxes=tuple(make_box(shape, mask) for shape, mask in zip(shapes, masks, strict=True)),
        class_map=partial(read_mapped, folder / row["mask"], _number_classes(row["composition"])),
        depth_map=partial(read_depth, folder / row["depth"], row["depth"], DEPTH_SCALE) if "depth" in row else None,
    )


def make_box(name: str, mask: np.ndarray) -> Box:
    """Return the smallest box around the pixels of a mask [H, W]. Its area is the number of pixels."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y, width, height = int(xs[0]), int(ys[0]), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1
    return Box(name, x, y, width, height, int(mask.sum()))


def _read_composition(words: Sequence[str]) -> Composition:
    """Return the composition whose words are stored with an image."""
    return Composition(ShapeObject(*words[:3]), ShapeObject(*words[4:]), words[3])


def _number_classes(words: Sequence[str]) -> dict[int, int]:
    """Return the class of each number of a mask, from the words of its composition."""
    objects = ShapeObject(*words[:3]), ShapeObject(*words[4:])
    return {0: 0, **{number: MAP_CLASSES.index(one.shape) for number, one in enumerate(objects, start=1)}}


def _draw_coverage(shape: str, centre: tuple[float, float], radius: float, size: int) -> Pixels:
    """Return the coverage of each pixel (size, size), 0 to 255. `centre` and `radius` are fractions of the side."""
    scale = size * SUPERSAMPLING
    canvas = Image.new("L", (scale, scale))
    draw = ImageDraw.Draw(canvas)
    x, y, r = centre[0] * scale, centre[1] * scale, radius * scale
    if shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=0)
    else:
        draw.polygon([(x + r * u, y + r * v) for u, v in _find_corners(shape)], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING))


@cache
def _find_corners(shape: str) -> tuple[tuple[float, float], ...]:
    """Return the corners of a shape in [-1, 1]², with y downwards."""
    if shape == "square":
        return (-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)
    if shape == "triangle":
        return (0, -1), (1, 0.85), (-1, 0.85)
    if shape == "cross":
        arm = 0.34
        quarter = [(arm, -1), (arm, -arm), (1, -arm)]
        turns = [quarter, [(-y, x) for x, y in quarter], [(-x, -y) for x, y in quarter], [(y, -x) for x, y in quarter]]
        return tuple(corner for turn in turns for corner in turn)
    angles = [math.pi * step / 5 - math.pi / 2 for step in range(10)]
    reach = [1.1, 0.45] * 5
    return tuple((r * math.cos(angle), r * math.sin(angle)) for r, angle in zip(reach, angles, strict=True))
