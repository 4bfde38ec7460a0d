"""The bundled data set: captioned pictures of two coloured shapes, rendered from a seed.

A composition is two different objects (size, colour, shape) and how they stand: the first left of, or above, the
second. There are 12,640, cut once and for all into train, validation and test, so that a model trained on the train
split has never seen a composition of the test split, whatever the seed. The seed moves what the captions do not say:
position, exact size, shade and noise.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations, product
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from visionbench.core import Example
from visionbench.datafiles.images import numbered_masks
from visionbench.registry import ConfigError, nearest, register

VERSION = "1"
"""Of the generator: raise it whenever the same parameters would give other pictures, captions or splits."""

RADII = {"small": 0.1, "large": 0.175}
"""Half the width of an object, as a share of the picture's side."""
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
HELD_OUT = 1000
"""Compositions in the validation split, and in the test split."""
SPLITS = ("train", "validation", "test")
SUPERSAMPLING = 4

Pixels = npt.NDArray[np.uint8]


class Thing(NamedTuple):
    """One object of a picture."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        """Its words, `small red ring`."""
        return " ".join(self)


class Composition(NamedTuple):
    """What a picture shows: `first` stands left of, or above, `second`."""

    first: Thing
    second: Thing
    relation: str

    def __str__(self) -> str:
        """Its one name, `small red ring above large blue star`."""
        return f"{self.first} {self.relation} {self.second}"

    @property
    def captions(self) -> tuple[str, ...]:
        """Five paraphrases; each names both objects and the relation, so none fits another composition."""
        other_a, other_b = (thing._replace(size=SYNONYMS[thing.size]) for thing in (self.first, self.second))
        words = {"a": self.first, "b": self.second, "other_a": other_a, "other_b": other_b}
        return tuple(template.format(**words) for template in TEMPLATES[self.relation])

    @property
    def label(self) -> str:
        """The two shapes, in the order of SHAPES: one of 15 classes, such as `ring and square`."""
        return " and ".join(sorted((self.first.shape, self.second.shape), key=SHAPES.index))


@cache
def compositions(split: str) -> tuple[Composition, ...]:
    """Every composition of a split, in a fixed order that depends neither on a seed nor on a library's version."""
    things = [Thing(*words) for words in product(RADII, COLOURS, SHAPES)]
    every = [Composition(a, b, relation) for (a, b), relation in product(permutations(things, 2), RELATIONS)]
    every.sort(key=lambda composition: hashlib.sha256(str(composition).encode()).digest())
    first, second = HELD_OUT, 2 * HELD_OUT
    return tuple({"test": every[:first], "validation": every[first:second], "train": every[second:]}[split])


def render(composition: Composition, seed: int, size: int) -> tuple[Pixels, Pixels]:
    """The picture (size, size, 3) and its mask (size, size): 0 background, 1 the first object, 2 the second."""
    entropy = int.from_bytes(hashlib.sha256(f"{VERSION} {composition}".encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, entropy])
    shade = rng.uniform(20, 80) + rng.uniform(-8, 8, size=3)
    picture = np.broadcast_to(shade, (size, size, 3)).copy()
    mask = np.zeros((size, size), np.uint8)
    for number, thing in enumerate((composition.first, composition.second), start=1):
        along = (0.26, 0.74)[number - 1] + rng.uniform(-0.04, 0.04)
        across = 0.5 + rng.uniform(-0.08, 0.08)
        centre = (along, across) if composition.relation == "left of" else (across, along)
        coverage = _coverage(thing.shape, centre, RADII[thing.size] * rng.uniform(0.93, 1.07), size)
        colour = np.asarray(COLOURS[thing.colour]) + rng.uniform(-10, 10, size=3)
        picture += (colour - picture) * (coverage[..., None] / 255)
        mask[coverage > 127] = number
    picture += rng.normal(0, 4, size=picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), mask


def save_jpeg(picture: Pixels, file: Path | IO[bytes]) -> None:
    """Write a picture to a path or a binary file, as the data set's pictures are written."""
    Image.fromarray(picture).save(file, "JPEG", quality=95, subsampling=0)


@register("data", "shapes")
@dataclass(frozen=True)
class Shapes:
    """Pictures of a split, rendered into `cache_dir` on first use. Raises ConfigError for options out of range."""

    gives: ClassVar[frozenset[str]] = frozenset({"captions", "labels", "masks"})

    split: str = "test"
    samples: int = 1000
    """The first so many compositions of the split, one picture each."""
    seed: int = 0
    size: int = 64
    """Pixels, each side."""
    cache_dir: str = "data/cache"

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        if self.split not in SPLITS:
            raise ConfigError(f"data.options.split: shapes has no split '{self.split}'{nearest(self.split, SPLITS)}")
        there = len(compositions(self.split))
        for option, least, most in (("samples", 1, there), ("seed", 0, 2**32 - 1), ("size", 32, 1024)):
            value = getattr(self, option)
            if type(value) is not int or not least <= value <= most:
                known = f"; the {self.split} split has {there} pictures" if option == "samples" else ""
                raise ConfigError(
                    f"data.options.{option}: {value!r} is not a whole number from {least} to {most}{known}"
                )

    @property
    def folder(self) -> Path:
        """Where the pictures of exactly these options lie, or will."""
        options = f"{VERSION} {self.split} {self.samples} {self.seed} {self.size}"
        return Path(self.cache_dir) / f"shapes-{hashlib.sha256(options.encode()).hexdigest()[:12]}" / self.split

    def examples(self) -> tuple[Example, ...]:
        """The pictures in the split's order; the first call renders them, about 1,000 a second."""
        if not self.folder.exists():
            self._render()
        rows = [json.loads(line) for line in self._annotations().splitlines()]
        return tuple(
            Example(
                id=row["id"],
                image=self.folder / row["image"],
                captions=tuple(row["captions"]),
                label=row["label"],
                masks=partial(numbered_masks, self.folder / row["mask"]),
                instances=2,
            )
            for row in rows
        )

    def classes(self) -> tuple[str, ...]:
        """The 15 pairs of shapes."""
        return LABELS

    def identity(self) -> Mapping[str, str]:
        """The options that decide the pictures, and a digest of the annotations; renders where that is still to do."""
        if not self.folder.exists():
            self._render()
        return {
            "name": "shapes",
            "split": self.split,
            "samples": str(self.samples),
            "seed": str(self.seed),
            "size": str(self.size),
            "generator": VERSION,
            "annotations_sha256": hashlib.sha256(self._annotations()).hexdigest(),
        }

    def _annotations(self) -> bytes:
        try:
            return (self.folder / "annotations.jsonl").read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}; delete {self.folder} to render it again") from error

    def _render(self) -> None:
        """Render beside the final folder and rename: of two processes at once, the later one keeps the earlier's."""
        unfinished = self.folder.with_name(f".{self.split}-{uuid.uuid4().hex}")
        try:
            for part in ("images", "masks"):
                (unfinished / part).mkdir(parents=True)
            rows = [self._write(unfinished, at, what) for at, what in enumerate(self._chosen())]
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

    def _chosen(self) -> tuple[Composition, ...]:
        return compositions(self.split)[: self.samples]

    def _write(self, folder: Path, at: int, composition: Composition) -> dict[str, object]:
        picture, mask = render(composition, self.seed, self.size)
        image_file, mask_file = f"images/{at:05d}.jpg", f"masks/{at:05d}.png"
        save_jpeg(picture, folder / image_file)
        Image.fromarray(mask).save(folder / mask_file)
        return {
            "id": f"{self.split}-{at:05d}",
            "image": image_file,
            "mask": mask_file,
            "captions": composition.captions,
            "label": composition.label,
            "composition": [*composition.first, composition.relation, *composition.second],
        }


def _coverage(shape: str, centre: tuple[float, float], radius: float, size: int) -> Pixels:
    """How much of each pixel (size, size) a shape covers, 0 to 255; centre and radius as shares of the side."""
    scale = size * SUPERSAMPLING
    canvas = Image.new("L", (scale, scale))
    draw = ImageDraw.Draw(canvas)
    x, y, r = centre[0] * scale, centre[1] * scale, radius * scale
    if shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=0)
    else:
        draw.polygon([(x + r * u, y + r * v) for u, v in _outline(shape)], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING))


@cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Corners of a shape in [-1, 1]², y downwards."""
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
