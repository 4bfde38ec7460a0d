"""A folder of pictures, or of one folder of pictures for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench import annotation
from visionbench.core import Example
from visionbench.registry import ConfigError, register


@register("data", "image_folder")
@dataclass
class ImageFolder:
    """Pictures below `root` in the order of their paths; a picture in a subfolder is labelled with its first folder."""

    root: str
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures. Raises ConfigError where there is no folder, or no picture in it."""
        root = annotation.folder(self.root, "image_folder")
        suffixes = annotation.PICTURE_SUFFIXES
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        if not paths:
            raise ConfigError(f"data.root={self.root}: no picture in it ({', '.join(sorted(suffixes))})")
        return [_example(path, root) for path in paths][: self.samples]

    def classes(self) -> Sequence[str]:
        """The first folders, sorted."""
        return sorted({example.label for example in self.examples() if example.label is not None})

    def identity(self) -> Mapping[str, str]:
        """The folder and the number of pictures taken from it."""
        return {
            "name": "image_folder",
            "root": str(Path(self.root).expanduser().resolve()),
            "samples": str(len(self.examples())),
        }


def _example(path: Path, root: Path) -> Example:
    inside = path.relative_to(root)
    return Example(str(inside), path, label=inside.parts[0] if len(inside.parts) > 1 else None)
