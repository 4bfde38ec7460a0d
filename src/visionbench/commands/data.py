"""`visionbench data prepare coco`: so many pictures of COCO with their captions and instances, in COCO's own layout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

import visionbench
from visionbench.datafiles import annotation_files, coco_schema, json_file
from visionbench.datafiles.download import Unreachable, fetch
from visionbench.datafiles.images import PictureError, decode
from visionbench.registry import ConfigError, nearest
from visionbench.terminal.console import screen

SERVER = os.environ.get("VISIONBENCH_COCO_URL", "http://images.cocodataset.org")
ARCHIVES = {"2017": ("annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c")}
"""By year, with the MD5 that is published in many places, such as MLCommons' scripts; 253 MB."""
SPLITS = ("val2017", "train2017")
KINDS = ("captions", "instances")
PROVENANCE = "provenance.json"


def prepare(samples: int, split: str, root: Path, source: Path | None) -> int:
    """Make the subset; what is there already is checked and kept. Raises ConfigError for what cannot be had."""
    if split not in SPLITS:
        raise ConfigError(f"--split {split}: no such split{nearest(split, SPLITS)}")
    console, subset = screen(), folder(samples, split, root)
    try:
        bring(samples, split, root, source, console)
    except Unreachable as error:
        raise ConfigError(f"{error}; {_by_hand(samples, split, root)}") from None
    console.print(f"visionbench run model=clip_vit_b32 data=coco_captions data.root={subset}", soft_wrap=True)
    console.print(f"visionbench run model=sam_vit_b data=coco_instances data.root={subset}", soft_wrap=True)
    return 0


def folder(samples: int, split: str, root: Path) -> Path:
    """Where a subset lies, below the folder of all."""
    return root / f"{split}-{samples}"


def is_ready(subset: Path, split: str) -> bool:
    """Whether a folder has COCO's annotations, which are written when all pictures are there."""
    return all((subset / "annotations" / f"{kind}_{split}.json").is_file() for kind in KINDS)


def bring(samples: int, split: str, root: Path, source: Path | None, console: Console) -> None:
    """Make the subset and say what was done. Raises Unreachable, and ConfigError for what cannot be had."""
    subset = folder(samples, split, root)
    whole = _annotations(split, root, source, console)
    chosen = choose(whole, samples, split)
    new = _pictures(chosen, split, subset, source, console)
    _write(subset, split, cut(whole, chosen))
    _remember(subset, split, source)
    console.print(f"{len(chosen)} pictures of {split} in {subset}: {new} new, {len(chosen) - new} were there already")


def choose(whole: Mapping[str, Any], samples: int, split: str) -> list[dict[str, Any]]:
    """The first so many pictures by id that have captions and an instance which is no crowd, none with a fault.

    Raises ConfigError, also where the lists do not tell pictures apart.
    """
    captions, instances = (
        coco_schema.described(Path(f"{kind}_{split}.json"), whole[kind]["annotations"], wanted, crowds)
        for kind, wanted, crowds in (("captions", "caption", False), ("instances", "segmentation", True))
    )
    _, pictures = (coco_schema.listed(Path(f"{kind}_{split}.json"), whole[kind]["images"]) for kind in KINDS)
    rows = {json_file.key(row["id"]): row for row in whole["instances"]["images"]}
    fit = [
        rows[one.id]
        for one in pictures
        if one.name == Path(one.name or "").name  # a plain name, which leads to no other folder
        and one.size is not None
        and all(_sound(found.get(one.id)) for found in (captions, instances))
    ]
    if not 1 <= samples <= len(fit):
        raise ConfigError(f"--samples {samples}: {split} has 1 to {len(fit)} pictures with captions and instances")
    return fit[:samples]


def _sound(found: coco_schema.Described | None) -> bool:
    return found is not None and bool(found.values) and not found.faults


def cut(whole: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The annotations of the chosen pictures alone, in the official form."""
    ids = {json_file.key(picture["id"]) for picture in chosen}
    return {
        kind: {
            **found,
            "images": [picture for picture in found["images"] if json_file.key(picture["id"]) in ids],
            "annotations": [row for row in found["annotations"] if json_file.key(row["image_id"]) in ids],
        }
        for kind, found in whole.items()
    }


def _annotations(split: str, root: Path, source: Path | None, console: Console) -> dict[str, Any]:
    """Captions and instances of the whole split: from `source`, or from the archive, fetched once."""
    names = {kind: f"{kind}_{split}.json" for kind in KINDS}
    folder = (source or root) / "annotations"
    if source is None and not all((folder / name).is_file() for name in names.values()):
        archive, md5 = ARCHIVES[split[-4:]]
        _unpack(_with_bar(f"{SERVER}/annotations/{archive}", root / archive, md5, console), folder, names.values())
    for name in names.values():
        if not (folder / name).is_file():
            raise ConfigError(f"--from {source}: annotations/{name} is not in it")
    return {kind: annotation_files.read_json(folder / name, ("images", "annotations")) for kind, name in names.items()}


def _unpack(archive: Path, folder: Path, names: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in names:
                draft = folder / f"{name}.part"
                with packed.open(f"annotations/{name}") as inside, draft.open("wb") as file:
                    shutil.copyfileobj(inside, file)
                draft.replace(folder / name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(f"{archive}: not COCO's archive of annotations ({error}); delete it and try again") from None


def _pictures(
    chosen: Sequence[Mapping[str, Any]], split: str, subset: Path, source: Path | None, console: Console
) -> int:
    """Have every picture whole in the subset; how many were not there before."""
    new = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for picture in bar.track(chosen, description=f"pictures of {split}"):
            path = subset / split / picture["file_name"]
            if path.exists() and _fault(path, picture):
                path.unlink()
            if not path.exists():
                new += 1
                if source is not None:
                    _take(source, split, path)
                else:
                    fetch(f"{SERVER}/{split}/{path.name}", path)
            if fault := _fault(path, picture):
                path.unlink()
                raise ConfigError(f"{path}: {fault}; run the same command again")
    return new


def _fault(path: Path, picture: Mapping[str, Any]) -> str | None:
    """Why a picture is not the one that the annotations describe."""
    try:
        image = decode(path)
    except PictureError as error:
        return error.reason
    size, meant = (image.width, image.height), (picture["width"], picture["height"])
    if size in (meant, meant[::-1]):  # the annotations do not turn a picture as its EXIF says
        return None
    return f"{size[0]} × {size[1]} pixels, where the annotations say {meant[0]} × {meant[1]}"


def _take(source: Path, split: str, path: Path) -> None:
    """Link a picture that lies on this machine, or copy it where it cannot be linked."""
    here = next((p for p in (source / split / path.name, source / "images" / split / path.name) if p.is_file()), None)
    if here is None:
        raise ConfigError(f"--from {source}: {split}/{path.name} is not in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        os.link(here, draft)
    except OSError:
        shutil.copyfile(here, draft)
    draft.replace(path)


def _write(subset: Path, split: str, annotations: Mapping[str, Any]) -> None:
    (subset / "annotations").mkdir(parents=True, exist_ok=True)
    for kind, found in annotations.items():
        path = subset / "annotations" / f"{kind}_{split}.json"
        draft = path.with_name(f"{path.name}.part")
        draft.write_text(json.dumps(found))
        draft.replace(path)


def _remember(subset: Path, split: str, source: Path | None) -> None:
    """Write down where every file is from and what it is."""
    files = sorted(path for part in (split, "annotations") for path in (subset / part).iterdir())
    record = {
        "source": str(source.resolve()) if source else SERVER,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "visionbench": visionbench.__version__,
        "sha256": {str(path.relative_to(subset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (subset / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")


def _with_bar(url: str, path: Path, md5: str, console: Console) -> Path:
    if not path.exists():
        console.print(f"fetching {url}", soft_wrap=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(path.name, total=None)
        return fetch(url, path, md5, lambda done, total: bar.update(task, completed=done, total=total))


def _by_hand(samples: int, split: str, root: Path) -> str:
    """The way out where there is no network, in one line."""
    archive, _ = ARCHIVES[split[-4:]]
    return (
        f"run the same command again, or bring {SERVER}/annotations/{archive} and {SERVER}/zips/{split}.zip from "
        "elsewhere, unpack both into one folder and run "
        f"'visionbench data prepare coco --samples {samples} --split {split} --root {root} --from FOLDER'"
    )
