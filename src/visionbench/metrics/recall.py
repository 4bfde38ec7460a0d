"""Recall@K and median rank of image→text and text→image retrieval with several captions per image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    LOWER,
    OVER_PICTURES,
    QUALITY,
    ConfigError,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Samples,
)
from visionbench.registry import register
from visionbench.statistics.resampling import hits_of, sum_per_image, with_intervals

if TYPE_CHECKING:
    import torch

IMAGES_PER_TILE, CAPTIONS_PER_TILE = 256, 640
"""Two fp32 tiles of this shape, the scores and their comparison, fit into the second-level cache of a core."""


def _recall(name: str, unit: str, meaning: str, better: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(f"recall_{name}", unit, meaning, better, QUALITY, options=("tie_tolerance",), **fields)


def _hit_rate(name: str, **fields: Any) -> MetricDeclaration:
    meaning = "Queries with a correct candidate among the best k: image→text (i2t), text→image (t2i)"
    intervals = (OVER_PICTURES,)
    return _recall(f"{name}_fraction", "fraction", meaning, HIGHER, compared=True, intervals=intervals, **fields)


@register("metrics", "recall")
@dataclass(frozen=True)
class Recall:
    """Hit rates: a query succeeds at K if one of its correct candidates is among the K candidates with the best scores.

    i2t: each image is a query for its captions and is ranked by the best of them; its other captions are ignored. An
    image without captions is no query. t2i: each caption is a query for its image among all images. Equal captions of
    other images count as wrong. The score is the cosine in fp32, for each precision of the model.

    rank = 1 + the number of wrong candidates whose score ≥ the best correct score − `tie_tolerance`

    Ties therefore count against the model: a collapsed model with equal embeddings gets the worst rank and not R@1 = 1.
    The tolerance is needed because tiles of different shapes and kernels of different machines sum the same products in
    a different order. Equal embeddings may then differ by about 1e-7 in score, and exact equality would miss the tie.
    """

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"image_embedding", "caption_embeddings"})
    needs: ClassVar[frozenset[str]] = frozenset({"captions"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _hit_rate("i2t_at_1", title="i→t R@1", translations={"zh": "图→文 R@1"}, table=True, order=60, headline=2),
        _hit_rate("i2t_at_5", title="i→t R@5", translations={"zh": "图→文 R@5"}, table=True, order=61),
        _hit_rate("t2i_at_1", title="t→i R@1", translations={"zh": "文→图 R@1"}, table=True, order=62, headline=1),
        _hit_rate("t2i_at_5", title="t→i R@5", translations={"zh": "文→图 R@5"}, table=True, order=63),
        _hit_rate("i2t_at_<k>", order=61),
        _hit_rate("t2i_at_<k>", order=63),
        _recall("{i2t,t2i}_median_rank", "rank", "Median rank of the best correct candidate, from 1", LOWER),
        _recall(
            "{i2t,t2i}_tied_fraction", "fraction", "Queries in which a wrong candidate ties with a correct one", LOWER
        ),
    )

    ks: list[int] = field(default_factory=lambda: [1, 5, 10])
    block_mib: int = 256
    """Limit of the memory for tiles, in addition to the embeddings and a few numbers per query."""
    tie_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        """Raise ConfigError for an option out of range."""
        if not self.ks or any(k < 1 for k in self.ks):
            raise ConfigError(f"metrics.recall.ks: {list(self.ks)} must be one or more numbers from 1 up, like [1, 5]")
        if self.block_mib < 1:
            raise ConfigError(f"metrics.recall.block_mib: {self.block_mib} must be 1 or more")
        if not 0 <= self.tie_tolerance < math.inf:
            raise ConfigError(f"metrics.recall.tie_tolerance: {self.tie_tolerance} must be 0 or more, like 1e-6")

    def score(self, predictions: Predictions) -> Samples:
        """Compute ranks and ties from the embedding [D] of each image and the embeddings [C, D] of its captions."""
        captions = predictions.columns["caption_embeddings"]
        return self.rank(
            {
                "image_embeddings": np.stack(predictions.columns["image_embedding"]),
                "text_embeddings": np.concatenate(captions),
                "captions_per_image": np.array([len(embeddings) for embeddings in captions]),
            }
        )

    def rank(self, embeddings: Mapping[str, np.ndarray]) -> Samples:
        """Compute ranks and ties from image embeddings [N, D], caption embeddings [M, D] and captions per image [N].

        Captions are in the order of the images. Each image with captions and each caption has a rank, and the number of
        wrong candidates that tie with the correct one. Raises ValueError if shapes do not match or an embedding is zero
        or not finite.
        """
        pairs = Pairs.of(embeddings, self.block_mib)
        best = best_right_scores(pairs)
        (i2t_reached, i2t_beaten), (t2i_reached, t2i_beaten) = count_wrong(pairs, best, self.tie_tolerance)
        is_query = pairs.captions_per_image > 0
        without_captions = len(is_query) - int(is_query.sum())
        detail = f"{without_captions} of {len(is_query)} images have no captions and are no queries"
        return Samples(
            {
                "recall/i2t_rank": 1 + i2t_reached[is_query],
                "recall/t2i_rank": 1 + t2i_reached,
                "recall/i2t_tied": (i2t_reached - i2t_beaten)[is_query],
                "recall/t2i_tied": t2i_reached - t2i_beaten,
                "recall/images_count": np.array([float(len(pairs.images.rows))]),
                "recall/captions_count": np.array([float(len(pairs.captions.rows))]),
                "recall/captions_per_image": pairs.captions_per_image.astype(np.float64),
            },
            flags={"images_without_captions": detail} if without_captions else {},
        )

    def compute(self, samples: Samples) -> Metrics:
        """Compute R@K with its interval, the median rank and the share of queries with a tie, in both directions."""
        values: dict[str, float | str] = {}
        for way, candidates in (("i2t", "captions"), ("t2i", "images")):
            rank, tied, count = f"recall/{way}_rank", f"recall/{way}_tied", f"recall/{candidates}_count"
            ranks, ties, counts = samples.get(rank), samples.get(tied), samples.get(count)
            for k in self.ks:
                name = f"recall_{way}_at_{k}_fraction"
                if not ranks.size or not counts.size:
                    values[name] = samples.why_missing(count if ranks.size else rank)
                elif k > counts[0]:
                    values[name] = f"K = {k} is above the number of {candidates} to choose from, {counts[0]:.0f}"
                else:
                    values[name] = float(np.mean(ranks <= k))
            values[f"recall_{way}_median_rank"] = float(np.median(ranks)) if ranks.size else samples.why_missing(rank)
            values[f"recall_{way}_tied_fraction"] = float(np.mean(ties > 0)) if ties.size else samples.why_missing(tied)
        metrics = Metrics(
            {name: value if isinstance(value, float) else None for name, value in values.items()},
            {name: reason for name, reason in values.items() if isinstance(reason, str)},
        )
        names = [f"recall_{way}_at_{k}_fraction" for way in ("i2t", "t2i") for k in self.ks]
        return with_intervals(metrics, names, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return hits and queries of each image at each K: one i2t query, and one t2i query per caption."""
        per_image = samples.get("recall/captions_per_image")
        if not len(per_image):
            return {}
        is_query = per_image > 0
        contributions: dict[str, Contributions] = {}
        for k in self.ks:
            i2t = np.zeros(len(is_query))
            i2t[is_query] = samples.get("recall/i2t_rank") <= k
            t2i = sum_per_image(samples.get("recall/t2i_rank") <= k, per_image)
            contributions[f"recall_i2t_at_{k}_fraction"] = hits_of(i2t, is_query)
            contributions[f"recall_t2i_at_{k}_fraction"] = hits_of(t2i, per_image)
        return contributions


@dataclass(frozen=True)
class Side:
    """One side of the pairs: embeddings [n, D], their lengths [n, 1], and the number of embeddings in a tile."""

    rows: np.ndarray
    lengths: np.ndarray
    step: int

    def buffer(self) -> np.ndarray:
        """Return memory for one block of `unit`."""
        return np.empty((self.step, self.rows.shape[1]), np.float32)

    def unit(self, block: slice, buffer: np.ndarray) -> torch.Tensor:
        """Return the embeddings of the block at length 1 in fp32, at the beginning of the buffer."""
        import torch

        head = buffer[: block.stop - block.start]
        np.divide(self.rows[block], self.lengths[block], out=head, casting="same_kind")
        return torch.from_numpy(head)


@dataclass(frozen=True)
class Tile:
    """Scores [images, captions] of one tile, valid until the next tile, and the positions of its correct pairs."""

    scores: torch.Tensor
    images: slice
    captions: slice
    right: slice
    """The captions in this tile whose image is also in this tile."""
    right_positions: tuple[torch.Tensor, torch.Tensor]
    """Row and column of these pairs in `scores`."""


@dataclass(frozen=True)
class Pairs:
    """All images with all captions, tile by tile; the full matrix [N, M] is never in memory."""

    images: Side
    captions: Side
    captions_per_image: np.ndarray
    first_caption: np.ndarray
    """[N + 1]: image i has the captions from `first_caption[i]` up to `first_caption[i + 1]`."""

    @classmethod
    def of(cls, embeddings: Mapping[str, np.ndarray], block_mib: int) -> Pairs:
        """Check the embeddings and divide them into tiles. Raises ValueError if they do not match."""
        images, captions = embeddings["image_embeddings"], embeddings["text_embeddings"]
        per_image = np.asarray(embeddings["captions_per_image"])
        if images.ndim != 2 or captions.ndim != 2 or images.shape[1] != captions.shape[1]:
            raise ValueError(f"recall: embeddings must be [N, D] and [M, D], not {images.shape} and {captions.shape}")
        if per_image.shape != (len(images),) or per_image.dtype.kind not in "iu" or np.any(per_image < 0):
            raise ValueError(f"recall: captions_per_image must be {len(images)} whole numbers from 0 up, one per image")
        first_caption = np.concatenate([[0], np.cumsum(per_image, dtype=np.int64)])
        if first_caption[-1] != len(captions) or not len(captions):
            raise ValueError(
                f"recall: captions_per_image sums to {first_caption[-1]}, text_embeddings has {len(captions)} rows; "
                "these numbers must be equal and not 0"
            )
        rows, columns = tile_shape(block_mib, len(images), len(captions), images.shape[1])
        return cls(
            Side(images, lengths(images, rows, "image_embeddings"), rows),
            Side(captions, lengths(captions, columns, "text_embeddings"), columns),
            per_image,
            first_caption,
        )

    def tiles(self, start: int = 0, stop: int | None = None, only_right: bool = False) -> Iterator[Tile]:
        """Yield the tiles of all captions with images from `start` to `stop`, or only those with correct pairs.

        `start` must be a multiple of the tile's images, so that each pass scores a pair in the same tile.
        """
        import torch

        stop = len(self.images.rows) if stop is None else stop
        image_buffer, caption_buffer = self.images.buffer(), self.captions.buffer()
        score_buffer = torch.empty(self.images.step * self.captions.step)
        image_of = np.repeat(np.arange(len(self.images.rows)), self.captions_per_image)
        for columns in blocks(0, len(self.captions.rows), self.captions.step):
            unit_captions = self.captions.unit(columns, caption_buffer)
            for rows in blocks(start, stop, self.images.step):
                left = max(columns.start, int(self.first_caption[rows.start]))
                right = slice(left, max(left, min(columns.stop, int(self.first_caption[rows.stop]))))
                if only_right and right.start == right.stop:
                    continue
                unit_images = self.images.unit(rows, image_buffer)
                scores = score_buffer[: len(unit_images) * len(unit_captions)].view(len(unit_images), -1)
                torch.mm(unit_images, unit_captions.T, out=scores)
                right_rows = torch.from_numpy(image_of[right] - rows.start)
                right_columns = torch.arange(right.start, right.stop) - columns.start
                yield Tile(scores, rows, columns, right, (right_rows, right_columns))


def best_right_scores(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return the best score of each image with its captions [N], infinite if it has none, and of each caption [M]."""
    caption_scores = np.empty(len(pairs.captions.rows), np.float32)
    with full_precision():
        for tile in pairs.tiles(only_right=True):
            caption_scores[tile.right] = tile.scores[tile.right_positions].numpy()
    is_query = pairs.captions_per_image > 0
    best = np.full(len(pairs.images.rows), np.inf, np.float32)
    best[is_query] = np.maximum.reduceat(caption_scores, pairs.first_caption[:-1][is_query])
    return best, caption_scores


def count_wrong(
    pairs: Pairs, best: tuple[np.ndarray, np.ndarray], tolerance: float, start: int = 0, stop: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Count the wrong candidates that reach the best correct score, and those that beat it: float64 [2, N] and [2, M].

    Reach means not more than the tolerance below it, beat means more than the tolerance above it. Comparisons are
    written as fp32 zeros and ones, because torch writes them into fp32 four times faster than into bool, and sums of
    ones are exact. With `start` and `stop`, only these images are queries and candidates.
    """
    import torch

    counts = [torch.zeros(2, len(scores), dtype=torch.float64) for scores in best]
    by_image, by_caption = (torch.from_numpy(scores) for scores in best)
    hits = torch.empty(pairs.images.step * pairs.captions.step)
    with full_precision():
        for tile in pairs.tiles(start, stop):
            tile.scores[tile.right_positions] = -math.inf
            hit = hits[: tile.scores.numel()].view(tile.scores.shape)
            bars = (by_image[tile.images, None], by_caption[None, tile.captions])
            for bar, count, queries, axis in zip(bars, counts, (tile.images, tile.captions), (1, 0), strict=True):
                count[0, queries] += torch.ge(tile.scores, bar - tolerance, out=hit).sum(axis)
                count[1, queries] += torch.gt(tile.scores, bar + tolerance, out=hit).sum(axis)
    return counts[0].numpy(), counts[1].numpy()


def tile_shape(block_mib: int, images: int, captions: int, dims: int) -> tuple[int, int]:
    """Return the images and captions of a tile that fits into the cache of each thread and into the limit of memory."""
    import torch

    rows, columns = min(images, IMAGES_PER_TILE), min(captions, CAPTIONS_PER_TILE * torch.get_num_threads())
    while tile_bytes(rows, columns, dims) > block_mib * 2**20 and rows * columns > 1:
        rows, columns = max(1, rows // 2), max(1, columns // 2)
    return rows, columns


def tile_bytes(rows: int, columns: int, dims: int) -> int:
    """Return the bytes of a tile: its embeddings, temporarily in fp64, its scores and their comparison."""
    return 8 * (dims * (rows + columns) + rows * columns)


def lengths(rows: np.ndarray, step: int, name: str) -> np.ndarray:
    """Return Euclidean lengths [n, 1], summed in fp64. Raises ValueError if one is zero or not finite."""
    result = np.empty((len(rows), 1), np.result_type(rows, np.float32))
    for block in blocks(0, len(rows), step):
        wide = rows[block].astype(np.float64)
        result[block, 0] = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wrong = np.flatnonzero(~np.isfinite(result) | (result == 0))
    if wrong.size:
        problem = "zero" if result[wrong[0]] == 0 else "not finite"
        raise ValueError(f"recall: {name}[{wrong[0]}] is {problem}: {wrong.size} of {len(rows)} have no direction")
    return result


def blocks(start: int, stop: int, step: int) -> Iterator[slice]:
    """Return consecutive slices of at most `step`."""
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply in true fp32. The precision of the measured model may allow bf16 products, with errors of 5e-4."""
    import torch

    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before
