"""Cost of the recall metric: python benchmarks/recall.py

Time: `Recall.rank` in both directions, divided by the time of the matrix product alone, alternating in one process.
Interval: `Recall.compute` with its intervals over images, in the same rounds, divided by the time of `rank`.
Memory: a slice of a large set in a fresh process. The peak excludes the embeddings; the total time is extrapolated.
The embeddings are random; each caption is near its image. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from visionbench.metrics.recall import Pairs, Recall, best_right_scores, count_wrong

MIB = 2**20
SELF = Path("/proc/self")


def main() -> None:
    """Print both parts. The large part runs in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--captions-per-image", type=int, default=5)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large-images", type=int, default=100_000, help="0: without the memory part")
    parser.add_argument("--slice-images", type=int, default=1_024, help="images of the large set that are ranked")
    parser.add_argument("--large-only", action="store_true", help="only the memory part, in this process")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.large_only:
        large(args.large_images, args.captions_per_image, args.dims, args.slice_images)
        return
    ratio(args.images, args.captions_per_image, args.dims, args.rounds)
    if args.large_images:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--large-only"], check=True)


def ratio(images: int, captions_per_image: int, dims: int, rounds: int) -> None:
    """Print the time of rank() divided by the time of the matrix product alone."""
    given = embeddings(images, captions_per_image, dims)
    unit_images, unit_captions = (
        torch.nn.functional.normalize(torch.from_numpy(given[name])) for name in ("image_embeddings", "text_embeddings")
    )
    parts: dict[str, Callable[[], object]] = {
        "rank": lambda: Recall().rank(given),
        "product": lambda: product(unit_images, unit_captions),
    }
    ranked = Recall().rank(given)
    parts["interval"] = lambda: Recall().compute(ranked)
    for part in parts.values():
        part()
    started = time.perf_counter(), run_delay_s()
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            begin = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - begin)
    score, alone, interval = (statistics.median(values) for values in seconds.values())
    each = sorted(a / b for a, b in zip(seconds["rank"], seconds["product"], strict=True))
    shares = sorted(a / b for a, b in zip(seconds["interval"], seconds["rank"], strict=True))
    print(
        f"{images:,} images x {len(unit_captions):,} captions x {dims}, {torch.get_num_threads()} threads, {rounds} "
        f"rounds\n  score, both ways       {score:7.3f} s median"
        f"\n  matrix product alone   {alone:7.3f} s median, in blocks of 1,024 x 1,024"
        f"\n  ratio                  {score / alone:7.2f}   (round by round {each[0]:.2f} to {each[-1]:.2f})"
        f"\n  figures and intervals  {interval:7.3f} s median, {interval / score:.1%} of the score "
        f"(round by round {shares[0]:.1%} to {shares[-1]:.1%})"
        f"\n  least of the rounds    {min(seconds['rank']):7.3f} s score, {min(seconds['interval']):.3f} s interval"
        f"\n  {waited(*started)}",
        flush=True,
    )


def product(images: torch.Tensor, captions: torch.Tensor, block: int = 1_024) -> None:
    """Compute all scores block by block and drop them. This block shape was the fastest of those tried."""
    buffer = torch.empty(block * block)
    for row in range(0, len(images), block):
        for column in range(0, len(captions), block):
            left, right = images[row : row + block], captions[column : column + block]
            torch.mm(left, right.T, out=buffer[: len(left) * len(right)].view(len(left), -1))


def large(images: int, captions_per_image: int, dims: int, slice_images: int) -> None:
    """Print the rate and the peak memory of the steps of rank(), the last step only for the first images."""
    Recall().rank(embeddings(8, captions_per_image, dims))
    given = embeddings(images, captions_per_image, dims)
    options = Recall()
    captions = images * captions_per_image
    started = time.perf_counter(), run_delay_s()
    (SELF / "clear_refs").write_text("5")
    before = status_mib("VmRSS")
    pairs = Pairs.of(given, options.block_mib)
    best = best_right_scores(pairs)
    prepared = time.perf_counter()
    stop = min(images, -(-slice_images // pairs.images.step) * pairs.images.step)
    count_wrong(pairs, best, options.tie_tolerance, 0, stop)
    ended = time.perf_counter()
    peak = status_mib("VmHWM") - before
    rate = stop * captions / (ended - prepared)
    total = prepared - started[0] + images * captions / rate
    held = sum(values.nbytes for values in given.values()) / MIB
    print(
        f"{images:,} images x {captions:,} captions x {dims}, {torch.get_num_threads()} threads, "
        f"{stop:,} of the images ranked"
        f"\n  rate                   {rate / 1e6:7.1f} million pairs/s, both ways"
        f"\n  all images would take  {total:7.0f} s, extrapolated from {ended - started[0]:.1f} s"
        f"\n  peak extra memory      {peak:7.0f} MiB above the embeddings' {held:,.0f} MiB (bound: 1,024 MiB)"
        f"\n  {waited(*started)}",
        flush=True,
    )


def embeddings(images: int, captions_per_image: int, dims: int) -> dict[str, np.ndarray]:
    """Return predictions in which the embedding of a caption is that of its image plus twice as much noise."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((images, dims), dtype=np.float32)
    text = rng.standard_normal((images, captions_per_image, dims), dtype=np.float32)
    text *= 2
    text += image[:, None]
    return {
        "image_embeddings": image,
        "text_embeddings": text.reshape(-1, dims),
        "captions_per_image": np.full(images, captions_per_image),
    }


def waited(wall_start: float, delay_start: float) -> str:
    """Return the share of the wall time in which this thread waited for a core, as text."""
    share = (run_delay_s() - delay_start) / (time.perf_counter() - wall_start)
    return f"waited for a core       {share:6.1%} of the time"


def run_delay_s() -> float:
    """Return the time in which the main thread has waited for a core."""
    return int((SELF / "schedstat").read_text().split()[1]) / 1e9


def status_mib(key: str) -> float:
    """Return a size in /proc/self/status in MiB."""
    lines = (SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


if __name__ == "__main__":
    main()
