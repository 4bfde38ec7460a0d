"""A folder of images, and of depth maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from visionbench.core import ConfigError, Example
from visionbench.datafiles.data_folder import check_counts, find_folder
from visionbench.datafiles.depth_maps import NUMPY, PNG, find_problem, read_depth
from visionbench.datafiles.paired_files import Pair, pair_files
from visionbench.examples.content_digest import digest_files
from visionbench.registry import register


@register("data", "depth_folder")
@dataclass
class DepthFolder:
    """Images in `images/` and depth maps of the same names in `depth/`, in the order of their paths.

    A depth map is a PNG file of 16 bits or a NumPy file in metres. Options: `images` and `depth`, other folders below
    `root`; `scale`, the number in a PNG file that is one metre; `samples`, the number of images.
    """

    root: str
    images: str = "images"
    depth: str = "depth"
    scale: float | None = None
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"depth"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"data.options.scale={self.scale}: must be above 0", "give the number that is one metre")

    def examples(self) -> Sequence[Example]:
        """Return the images with their depth maps. Raises ConfigError if a folder does not exist or has no image, or if
        there are PNG files and no scale.

        A depth map without an image is one more example, which cannot be used.
        """
        pairs = self._pairs
        if self.scale is None and (first := next((pair for pair in pairs if pair.other.suffix == PNG), None)):
            raise ConfigError(
                f"data.root={self.root}: {first.other_name} is a PNG file, whose numbers need a scale",
                "give the number that is one metre, as in data.options.scale=1000 for millimetres",
            )
        return [self._make_example(pair) for pair in pairs][: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the images have no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, options, number of images and a digest of the depth maps."""
        pairs = self._pairs[: self.samples]
        digests = digest_files([pair.other for pair in pairs])
        content = json.dumps([(pair.name, digests[pair.other]) for pair in pairs])
        return {
            "name": "depth_folder",
            "root": str(self._root.resolve()),
            "images": self.images,
            "depth": self.depth,
            "scale": str(self.scale),
            "samples": str(len(pairs)),
            "annotations_sha256": hashlib.sha256(content.encode()).hexdigest(),
        }

    def _make_example(self, pair: Pair) -> Example:
        if pair.problems:
            return Example(pair.name, pair.image, problems=pair.problems)
        size, problem = find_problem(pair.other, pair.other_name)
        return Example(
            pair.name,
            pair.image,
            depth_map=partial(read_depth, pair.other, pair.other_name, self.scale),
            size=size,
            problems=(problem,) if problem else (),
        )

    @property
    def _root(self) -> Path:
        return find_folder(self.root, "depth_folder")

    @property
    def _pairs(self) -> Sequence[Pair]:
        return pair_files(self._root, self.images, self.depth, "depth", (NUMPY, PNG))
