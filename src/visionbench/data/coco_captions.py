"""COCO's captions: `annotations/captions_<split>.json` beside the folder of pictures, as cocodataset.org gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench.core import Example, FetchProgress
from visionbench.datafiles import annotation_files, coco_download
from visionbench.datafiles.coco_schema import Described
from visionbench.registry import register


@register("data", "coco_captions")
@dataclass(frozen=True)
class CocoCaptions:
    """Options: the `split`, another file of `annotations` in this form, and `samples`, the first so many pictures."""

    root: str
    split: str = "val2017"
    annotations: str | None = None
    """Below `root`; by default `annotations/captions_<split>.json`."""
    samples: int | None = None

    gives: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        annotation_files.at_least_one(samples=self.samples)

    def examples(self) -> Sequence[Example]:
        """The pictures by rising id, each with all its captions in the order of the file."""
        files, examples = self._files, []
        captions = files.captions()
        for picture in files.listed():
            said, one = captions.pop(picture.id, Described()), files.example(picture)
            examples.append(annotation_files.captioned(one.id, one.image, said.values, (*one.faults, *said.faults)))
        strays = annotation_files.unlisted(captions, files.pictures)
        return annotation_files.apart([*examples, *strays])[: self.samples]

    def classes(self) -> Sequence[str]:
        """None: it has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Folder, split, number of pictures and a digest of the annotations."""
        return self._files.identity(len(self.examples()))

    def is_ready(self) -> bool:
        """Return whether the folder holds COCO's annotations, which are written after all images."""
        return coco_download.is_ready(Path(self.root).expanduser(), self.split)

    def check_fetch(self, samples: int) -> None:
        """Raise ConfigError if this split cannot be fetched into this folder."""
        coco_download.check_fetch(samples, self.split, Path(self.root))

    def fetch(self, samples: int, progress: FetchProgress) -> None:
        """Fetch a subset of COCO into the folder. Raises ConfigError if it cannot be fetched."""
        root = Path(self.root).expanduser().parent
        coco_download.fetch_subset(samples, self.split, root, None, progress)

    @property
    def _files(self) -> annotation_files.CocoFiles:
        file = self.annotations or f"annotations/captions_{self.split}.json"
        return annotation_files.CocoFiles.find("coco_captions", self.root, self.split, file)
