"""Captions compared with references: CIDEr-D, BLEU-4 and ROUGE-L as in COCO's evaluation, exact match and token F1.

The tokens are those of Stanford's PTBTokenizer, as in COCO's evaluation (see `ptb`), or those of sacrebleu's tokenizers
for captions in languages other than English.

CIDEr-D: Vedantam et al. 2015, with COCO's constants. BLEU: Papineni et al. 2002. ROUGE-L: Lin 2004, with β = 1.2 and
the best precision and recall over the references, as in COCO's evaluation (other tools report β = 1).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar

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
from visionbench.metrics.captioning import ptb
from visionbench.registry import nearest, register
from visionbench.statistics.resampling import hits_of, mean_of, with_intervals

LONGEST = 4
"""The longest n-grams that CIDEr-D and BLEU-4 count."""
SIGMA = 6.0
"""Standard deviation of the Gaussian with which CIDEr-D penalizes a difference in length."""
BETA = 1.2
TOKENIZERS = ("ptb", "13a", "char", "zh")
"""`ptb` is COCO's tokenizer. The others are those of sacrebleu with these names, applied to lower-case text."""
MEANS = {
    "cider_score": "cider",
    "rouge_l_fraction": "rouge_l",
    "exact_match_fraction": "exact_match",
    "token_f1_fraction": "token_f1",
}
"""Each metric that is a mean over images, with its series."""
SEGMENTING = ("char", "zh")
"""Tokenizers that need no spaces between words."""
UNSEGMENTED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese kana and Chinese characters: scripts without spaces between words."""

Tokens = tuple[str, ...]
Grams = Counter[Tokens]
OPTIONS = ("tokenizer",)
"""Options that change what the metrics mean."""


def _captioning(name: str, meaning: str, title: str = "", zh: str = "", **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        f"captioning_{name}",
        name.rpartition("_")[2],
        meaning,
        HIGHER,
        QUALITY,
        title=title,
        translations={"zh": zh} if zh else {},
        table=bool(title),
        intervals=(OVER_PICTURES,),
        options=OPTIONS,
        **fields,
    )


@register("metrics", "captioning")
@dataclass(frozen=True)
class Captioning:
    """Option: the `tokenizer`, one of TOKENIZERS."""

    tokenizer: str = "ptb"

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"caption", "references"})
    needs: ClassVar[frozenset[str]] = frozenset({"captions"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _captioning(
            "cider_score", "CIDEr-D, multiplied by ten as usual", title="CIDEr", order=80, compared=True, headline=1
        ),
        _captioning("bleu_4_fraction", "BLEU-4 of the corpus", title="BLEU-4", order=81, compared=True, headline=2),
        _captioning("exact_match_fraction", "Captions equal to a reference", title="exact", zh="完全一致", order=82),
        _captioning("rouge_l_fraction", "ROUGE-L, mean over images"),
        _captioning("token_f1_fraction", "F1 of the bags of words, best reference"),
        MetricDeclaration("captioning_pictures_count", "count", "Images that were scored"),
        MetricDeclaration(
            "captioning_empty_count", "count", "Captions without a word", LOWER, QUALITY, options=OPTIONS
        ),
    )

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise ConfigError(
                f"metrics.captioning.tokenizer={self.tokenizer}: no such value{nearest(self.tokenizer, TOKENIZERS)}"
            )

    def score(self, predictions: Predictions) -> Samples:
        """Score the caption of each image: CIDEr-D, ROUGE-L, exact match, token F1, and the counts of BLEU.

        CIDEr-D weighs n-grams by the number of images whose references have them, so the values of a subset differ from
        those of the complete data set. An empty caption scores 0 and is counted. Raises ValueError with the id of an
        image that has no reference.
        """
        for name, texts in zip(predictions.ids, predictions.columns["references"], strict=True):
            if not len(texts):
                raise ValueError(f"captioning: {name} has no reference")
        captions = [tokens(caption, self.tokenizer) for caption in predictions.columns["caption"]]
        references = [
            [tokens(reference, self.tokenizer) for reference in texts] for texts in predictions.columns["references"]
        ]
        counted = list(zip(captions, references, strict=True))
        series: dict[str, Sequence[float]] = {
            "cider": ciders(captions, references),
            "rouge_l": [rouge_l(caption, texts) for caption, texts in counted],
            "exact_match": [float(caption in texts) for caption, texts in counted],
            "token_f1": [max(token_f1(caption, reference) for reference in texts) for caption, texts in counted],
            "caption_tokens": [float(len(caption)) for caption in captions],
            "reference_tokens": [float(closest(len(caption), map(len, texts))) for caption, texts in counted],
        }
        for n in range(1, LONGEST + 1):
            series[f"bleu_{n}_matches"] = [float(matches(caption, texts, n)) for caption, texts in counted]
        return Samples(
            {f"captioning/{name}": np.array(values, np.float64) for name, values in series.items()},
            flags=self._unsegmented(predictions.columns["references"]),
        )

    def compute(self, samples: Samples) -> Metrics:
        """Compute means over images, BLEU-4 of the corpus, intervals, and the number of images."""
        lengths = samples.get("captioning/caption_tokens")
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name, series in MEANS.items():
            values[name] = float(samples.get(f"captioning/{series}").mean()) if len(lengths) else None
        values["bleu_4_fraction"] = bleu(samples) if len(lengths) else None
        values["pictures_count"] = float(len(lengths)) if len(lengths) else None
        values["empty_count"] = float((lengths == 0).sum()) if len(lengths) else None
        if not len(lengths):
            reasons = dict.fromkeys(values, samples.why_missing("captioning/cider"))
        elif len(lengths) == 1:
            values["cider_score"] = None
            reasons["cider_score"] = "with one image, CIDEr-D cannot weigh words by how rare they are"
        metrics = Metrics(
            {f"captioning_{name}": value for name, value in values.items()},
            {f"captioning_{name}": reason for name, reason in reasons.items()},
        )
        names = [f"captioning_{name}" for name in (*MEANS, "bleu_4_fraction")]
        return with_intervals(metrics, names, self.contributions(samples), samples)

    def _unsegmented(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return a flag if references have no spaces between words and the tokenizer splits at spaces."""
        flat = [reference for texts in references for reference in texts]
        count = sum(bool(UNSEGMENTED.search(reference)) for reference in flat)
        if not count or self.tokenizer in SEGMENTING:
            return {}
        return {
            "references_unsegmented": f"{count} of {len(flat)} references are in a script without spaces between "
            f"words, and the tokenizer {self.tokenizer} treats each run of characters as one word; set "
            "metrics.captioning.tokenizer=zh or char"
        }

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return the scores of each image, and its counts for BLEU-4.

        The document frequencies of CIDEr-D stay those of all references, because they depend on the data alone.
        """
        if not len(samples.get("captioning/caption_tokens")):
            return {}
        contributions = {}
        for name, series in MEANS.items():
            scores = samples.get(f"captioning/{series}")
            exact = series == "exact_match"
            contributions[f"captioning_{name}"] = (
                hits_of(scores) if exact else mean_of(scores, at_most_one=series != "cider")
            )
        contributions["captioning_bleu_4_fraction"] = Contributions(bleu_counts(samples), bleu_from_counts)
        return contributions


# ------------------------------------------------------------------------------------------------------------- counting
def tokens(text: str, tokenizer: str = "ptb") -> Tokens:
    """Return the tokens of a caption in lower case; `ptb` also removes punctuation, as COCO's evaluation does."""
    return ptb.tokens(text) if tokenizer == "ptb" else tuple(_sacrebleu_tokenizer(tokenizer)(text.lower()).split())


@lru_cache(maxsize=len(TOKENIZERS))
def _sacrebleu_tokenizer(name: str) -> Callable[[str], str]:
    module = import_module(f"sacrebleu.tokenizers.tokenizer_{name}")
    tokenizer: Callable[[str], str] = getattr(module, f"Tokenizer{name.capitalize()}")()
    return tokenizer


def grams(words: Tokens, n: int) -> Grams:
    """Count each n-gram."""
    return Counter(words[start : start + n] for start in range(len(words) - n + 1))


def closest(length: int, lengths: Sequence[int] | map[int]) -> int:
    """Return the nearest length, or the shorter one of two equally near lengths."""
    return min(lengths, key=lambda other: (abs(other - length), other))


def matches(caption: Tokens, references: Sequence[Tokens], n: int) -> int:
    """Count the n-grams of the caption that references have, each up to its largest count in one reference."""
    most: Grams = Counter()
    for reference in references:
        most |= grams(reference, n)
    return (grams(caption, n) & most).total()


# -------------------------------------------------------------------------------------------------------------- scoring
def bleu(samples: Samples) -> float:
    """Return BLEU-4 of a corpus: the geometric mean of the precisions × the brevity penalty, without smoothing."""
    lengths, reference = samples.get("captioning/caption_tokens"), samples.get("captioning/reference_tokens").sum()
    logs = 0.0
    for n in range(1, LONGEST + 1):
        matched = samples.get(f"captioning/bleu_{n}_matches").sum()
        written = np.maximum(lengths - n + 1, 0).sum()
        if not matched:
            return 0.0
        logs += math.log(matched / written) / LONGEST
    return math.exp(logs + min(0.0, 1 - reference / lengths.sum()))


def bleu_counts(samples: Samples) -> np.ndarray:
    """Return the counts of BLEU-4 [images, 10]: matches and n-grams for n = 1 to 4, tokens of caption and reference."""
    lengths = samples.get("captioning/caption_tokens")
    matched = [samples.get(f"captioning/bleu_{n}_matches") for n in range(1, LONGEST + 1)]
    written = [np.maximum(lengths - n + 1, 0) for n in range(1, LONGEST + 1)]
    return np.stack([*matched, *written, lengths, samples.get("captioning/reference_tokens")], axis=1)


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """Return BLEU-4 from sums [..., 10] of `bleu_counts`."""
    matched, written = counts[..., :LONGEST], counts[..., LONGEST : 2 * LONGEST]
    caption, reference = counts[..., -2], counts[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(matched / written).mean(axis=-1) + np.minimum(0.0, 1 - reference / caption)
    return np.where((matched > 0).all(axis=-1), np.exp(logs), 0.0)


def rouge_l(caption: Tokens, references: Sequence[Tokens]) -> float:
    """Return F(β) of the longest common subsequence, from the best precision and recall over the references."""
    common = [subsequence(caption, reference) for reference in references]
    precision = max(common) / len(caption) if caption else 0.0
    recall = max(
        length / len(reference) if reference else 0.0 for length, reference in zip(common, references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def subsequence(first: Tokens, second: Tokens) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for index, candidate in enumerate(second, start=1):
            above = row[index]
            row[index] = diagonal + 1 if word == candidate else max(above, row[index - 1])
            diagonal = above
    return row[-1]


def token_f1(caption: Tokens, reference: Tokens) -> float:
    """Return F1 of the two bags of tokens; 1 if both are empty."""
    if not caption or not reference:
        return float(caption == reference)
    both = (Counter(caption) & Counter(reference)).total()
    return 2 * both / (len(caption) + len(reference))


def ciders(captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """Return CIDEr-D of each caption, multiplied by ten as usual."""
    frequencies: Counter[Tokens] = Counter()
    for texts in references:
        frequencies.update({gram for reference in texts for n in range(1, LONGEST + 1) for gram in grams(reference, n)})
    log_images = math.log(len(references))

    def weights(words: Tokens) -> list[dict[Tokens, float]]:
        return [
            {
                gram: count * (log_images - math.log(max(1, frequencies[gram])))
                for gram, count in grams(words, n).items()
            }
            for n in range(1, LONGEST + 1)
        ]

    def similarity(caption: Tokens, weighted: list[dict[Tokens, float]], reference: Tokens) -> float:
        length = max(0, len(caption) - 1) - max(0, len(reference) - 1)
        cosines = [_clipped_cosine(a, b) for a, b in zip(weighted, weights(reference), strict=True)]
        return sum(cosines) / LONGEST * math.exp(-(length**2) / (2 * SIGMA**2))

    scores = []
    for caption, texts in zip(captions, references, strict=True):
        weighted = weights(caption)
        scores.append(10 * sum(similarity(caption, weighted, reference) for reference in texts) / len(texts))
    return scores


def _clipped_cosine(caption: dict[Tokens, float], reference: dict[Tokens, float]) -> float:
    """Return the cosine of two weighted n-gram counts, with each count of the caption clipped to the reference."""
    lengths = math.sqrt(sum(w * w for w in caption.values())) * math.sqrt(sum(w * w for w in reference.values()))
    if not lengths:
        return 0.0
    products = (min(weight, reference[gram]) * reference[gram] for gram, weight in caption.items() if gram in reference)
    return sum(products) / lengths
