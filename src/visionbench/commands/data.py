"""`visionbench data prepare coco`: make a subset of COCO 2017 with captions and instances, in the layout of COCO."""

from __future__ import annotations

from pathlib import Path

from visionbench.core import ConfigError
from visionbench.datafiles import coco_download
from visionbench.datafiles.download import Unreachable
from visionbench.registry import nearest
from visionbench.terminal.console import screen
from visionbench.terminal.progress import fetch_progress


def prepare(samples: int, split: str, root: Path, source: Path | None) -> int:
    """Make the subset. Existing files are checked and not fetched again. Raises ConfigError if this fails."""
    if split not in coco_download.SPLITS:
        raise ConfigError(f"--split {split}: no such split{nearest(split, coco_download.SPLITS)}")
    console = screen()
    try:
        with fetch_progress(console) as progress:
            coco_download.fetch_subset(samples, split, root, source, progress)
    except Unreachable as error:
        raise ConfigError(str(error), coco_download.manual_steps(samples, split, root)) from None
    subset = coco_download.subset_folder(samples, split, root)
    console.print(f"visionbench run model=clip_vit_b32 data=coco_captions data.root={subset}", soft_wrap=True)
    console.print(f"visionbench run model=sam_vit_b data=coco_instances data.root={subset}", soft_wrap=True)
    return 0
