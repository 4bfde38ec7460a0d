"""A subset of COCO 2017 with captions and instances, in COCO's own layout, from the network or from a local folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import visionbench
from visionbench.core import ConfigError, FetchProgress
from visionbench.datafiles import coco_schema
from visionbench.datafiles.coco_files import read_lists
from visionbench.datafiles.download import fetch
from visionbench.datafiles.images import PictureError, decode
from visionbench.datafiles.json_file import parse_id
from visionbench.registry import nearest

SERVER = os.environ.get("VISIONBENCH_COCO_URL", "http://images.cocodataset.org")
ARCHIVES = {"2017": ("annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c")}
"""The archive of annotations by year, with its MD5, which MLCommons' scripts and others publish; 253 MB."""
SPLITS = ("val2017", "train2017")
KINDS = ("captions", "instances")
PROVENANCE = "provenance.json"


def subset_folder(samples: int, split: str, root: Path) -> Path:
    """Return the folder of a subset, below the folder of all subsets."""
    return root / f"{split}-{samples}"


@dataclass(frozen=True)
class CocoSource:
    """The source of a data set's folder `root`: a subset of one split of COCO from the network."""

    root: str
    split: str

    def is_ready(self) -> bool:
        """Return whether the folder has COCO's annotations, which are written after all images."""
        annotations = Path(self.root).expanduser() / "annotations"
        return all((annotations / f"{kind}_{self.split}.json").is_file() for kind in KINDS)

    def check(self, samples: int) -> None:
        """Raise ConfigError if a subset of this split cannot be fetched, or if the folder has another name than it."""
        if self.split not in SPLITS:
            raise ConfigError(f"data.options.split={self.split}: cannot be fetched{nearest(self.split, SPLITS)}")
        name = subset_folder(samples, self.split, Path()).name
        if Path(self.root).name != name:
            raise ConfigError(
                f"data.root={Path(self.root)}: COCO is not in it, and data.prepare={samples} makes a folder named "
                f"{name}",
                f"give data.root=…/{name}, or the folder that holds COCO",
            )

    def fetch(self, samples: int, progress: FetchProgress) -> None:
        """Make the subset in the folder. Raises as `fetch_subset` does."""
        fetch_subset(samples, self.split, Path(self.root).expanduser().parent, None, progress)


def fetch_subset(samples: int, split: str, root: Path, source: Path | None, progress: FetchProgress) -> None:
    """Make the subset below `root`, from the folder `source` or from the network; check and keep existing files.

    Raises Unreachable if the server cannot be reached, and ConfigError if the subset cannot be made.
    """
    subset = subset_folder(samples, split, root)
    annotations = _read_annotations(split, root, source, progress)
    chosen = choose(annotations, samples, split)
    new = _fetch_images(chosen, split, subset, source, progress)
    _write_annotations(subset, split, cut(annotations, chosen))
    _write_provenance(subset, split, source)
    progress.line(f"{len(chosen)} images of {split} in {subset}: {new} new, {len(chosen) - new} already present")


def manual_steps(samples: int, split: str, root: Path) -> str:
    """Return in one line how to make the subset on a machine without a network."""
    archive, _ = ARCHIVES[split[-4:]]
    return (
        f"run the same command again, or download {SERVER}/annotations/{archive} and {SERVER}/zips/{split}.zip on "
        "another machine, unpack both into one folder and run "
        f"'visionbench data prepare coco --samples {samples} --split {split} --root {root} --from FOLDER'"
    )


def choose(annotations: Mapping[str, Any], samples: int, split: str) -> list[dict[str, Any]]:
    """Return the first images by id that have captions, an instance other than a crowd, and no problem.

    Raises ConfigError if there are fewer than `samples`, or if the lists do not identify images uniquely.
    """
    captions, instances = (
        coco_schema.parse_annotations(Path(f"{kind}_{split}.json"), annotations[kind]["annotations"], value, crowds)
        for kind, value, crowds in (("captions", "caption", False), ("instances", "segmentation", True))
    )
    _, images = (coco_schema.parse_images(Path(f"{kind}_{split}.json"), annotations[kind]["images"]) for kind in KINDS)
    rows = {parse_id(row["id"]): row for row in annotations["instances"]["images"]}
    suitable = [
        rows[image.id]
        for image in images
        if image.name == Path(image.name or "").name  # a plain name, which does not lead to another folder
        and image.size is not None
        and all(_has_no_problem(lists.get(image.id)) for lists in (captions, instances))
    ]
    if not 1 <= samples <= len(suitable):
        raise ConfigError(f"--samples {samples}: {split} has 1 to {len(suitable)} images with captions and instances")
    return suitable[:samples]


def _has_no_problem(annotations: coco_schema.Annotations | None) -> bool:
    return annotations is not None and bool(annotations.values) and not annotations.problems


def cut(annotations: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the annotations of the chosen images alone, in the official form."""
    ids = {parse_id(image["id"]) for image in chosen}
    return {
        kind: {
            **content,
            "images": [image for image in content["images"] if parse_id(image["id"]) in ids],
            "annotations": [row for row in content["annotations"] if parse_id(row["image_id"]) in ids],
        }
        for kind, content in annotations.items()
    }


def _read_annotations(split: str, root: Path, source: Path | None, progress: FetchProgress) -> dict[str, Any]:
    """Read captions and instances of the full split, from `source` or from the archive, which is fetched once."""
    names = {kind: f"{kind}_{split}.json" for kind in KINDS}
    folder = (source or root) / "annotations"
    if source is None and not all((folder / name).is_file() for name in names.values()):
        archive, md5 = ARCHIVES[split[-4:]]
        _unpack(
            _fetch_archive(f"{SERVER}/annotations/{archive}", root / archive, md5, progress), folder, names.values()
        )
    for name in names.values():
        if not (folder / name).is_file():
            raise ConfigError(f"--from {source}: annotations/{name} is not in it")
    return {kind: read_lists(folder / name, ("images", "annotations")) for kind, name in names.items()}


def _fetch_archive(url: str, path: Path, md5: str | None, progress: FetchProgress) -> Path:
    if not path.exists():
        progress.line(f"fetching {url}")
    return fetch(url, path, md5, lambda done, total: progress.show(path.name, done, total))


def _unpack(archive: Path, folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in names:
                draft = folder / f"{name}.part"
                with packed.open(f"annotations/{name}") as inside, draft.open("wb") as file:
                    shutil.copyfileobj(inside, file)
                draft.replace(folder / name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"{archive}: not COCO's archive of annotations ({error})", "delete it and try again"
        ) from None


def _fetch_images(
    chosen: Sequence[Mapping[str, Any]], split: str, subset: Path, source: Path | None, progress: FetchProgress
) -> int:
    """Fetch or link every chosen image that is missing or damaged; return the number of new images."""
    new = 0
    for count, image in enumerate(chosen):
        progress.show(f"images of {split}", count, len(chosen))
        path = subset / split / image["file_name"]
        if path.exists() and _difference(path, image):
            path.unlink()
        if not path.exists():
            new += 1
            if source is not None:
                _link(source, split, path)
            else:
                fetch(f"{SERVER}/{split}/{path.name}", path)
        if reason := _difference(path, image):
            path.unlink()
            raise ConfigError(f"{path}: {reason}", "run the same command again")
    return new


def _difference(path: Path, described: Mapping[str, Any]) -> str | None:
    """Return why a file is not the image that the annotations describe, or None if it is."""
    try:
        image = decode(path)
    except PictureError as error:
        return error.reason
    size, expected = (image.width, image.height), (described["width"], described["height"])
    if size in (expected, expected[::-1]):  # the annotations ignore a rotation in the EXIF data
        return None
    return f"{size[0]} × {size[1]} pixels, but the annotations give {expected[0]} × {expected[1]}"


def _link(source: Path, split: str, path: Path) -> None:
    """Link an image from the local folder, or copy it if it cannot be linked."""
    candidates = (source / split / path.name, source / "images" / split / path.name)
    original = next((candidate for candidate in candidates if candidate.is_file()), None)
    if original is None:
        raise ConfigError(f"--from {source}: {split}/{path.name} is not in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        os.link(original, draft)
    except OSError:
        shutil.copyfile(original, draft)
    draft.replace(path)


def _write_annotations(subset: Path, split: str, annotations: Mapping[str, Any]) -> None:
    (subset / "annotations").mkdir(parents=True, exist_ok=True)
    for kind, content in annotations.items():
        path = subset / "annotations" / f"{kind}_{split}.json"
        draft = path.with_name(f"{path.name}.part")
        draft.write_text(json.dumps(content))
        draft.replace(path)


def _write_provenance(subset: Path, split: str, source: Path | None) -> None:
    """Record the origin and the digest of every file."""
    files = sorted(path for folder in (split, "annotations") for path in (subset / folder).iterdir())
    record = {
        "source": str(source.resolve()) if source else SERVER,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "visionbench": visionbench.__version__,
        "sha256": {str(path.relative_to(subset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (subset / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")
