"""Answers to questions about images, compared with the answers of people: VQA accuracy, and exact match.

Both compare answers after the normalisation of VQAv2 (see `vqa`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from visionbench.core import (
    HIGHER,
    LOWER,
    OVER_PICTURES,
    QUALITY,
    Contributions,
    MetricDeclaration,
    Metrics,
    Predictions,
    Samples,
)
from visionbench.metrics.question_answering.vqa import ANSWERS, normalise, vqa_accuracy
from visionbench.registry import register
from visionbench.statistics.resampling import hits_of, mean_of, sum_per_image, with_intervals

GROUP = "question_answering"
VQA, EXACT, COUNTS = f"{GROUP}/vqa_accuracy", f"{GROUP}/exact_match", f"{GROUP}/questions_per_picture"


def _declared(name: str, meaning: str, **fields: Any) -> MetricDeclaration:
    return MetricDeclaration(
        f"{GROUP}_{name}_fraction", "fraction", meaning, HIGHER, QUALITY, intervals=(OVER_PICTURES,), **fields
    )


@register("metrics", GROUP)
@dataclass(frozen=True)
class QuestionAnswering:
    """It has no options. The intervals draw images, not questions, because the questions about an image belong
    together."""

    stages: ClassVar[tuple[str, ...]] = ("evaluation",)
    reads: ClassVar[frozenset[str]] = frozenset({"answers", "questions"})
    needs: ClassVar[frozenset[str]] = frozenset({"questions"})

    declarations: ClassVar[tuple[MetricDeclaration, ...]] = (
        _declared(
            "vqa_accuracy",
            "VQA accuracy: min(matches ÷ 3, 1), mean over the subsets of nine of the ten answers of people",
            title="VQA acc.",
            translations={"zh": "VQA 准确率"},
            table=True,
            order=85,
            compared=True,
            headline=1,
        ),
        _declared(
            "exact_match",
            "Questions whose answer is equal to one of the answers of people",
            title="answer EM",
            translations={"zh": "答案完全一致"},
            table=True,
            order=86,
            compared=True,
            headline=2,
        ),
        MetricDeclaration(f"{GROUP}_questions_count", "count", "Questions that were scored"),
        MetricDeclaration(f"{GROUP}_empty_count", "count", "Answers without a word", LOWER, QUALITY),
    )

    def score(self, predictions: Predictions) -> Samples:
        """Score the answer to each question.

        VQA accuracy is missing unless each question has the answers of ten people. Raises ValueError with the id of an
        image that has another number of answers than of questions.
        """
        vqa, exact, counts, empty = list[float](), list[float](), list[float](), 0
        others = Counter[int]()
        texts = list[str]()
        for name, answers, questions in zip(
            predictions.ids, predictions.columns["answers"], predictions.columns["questions"], strict=True
        ):
            if len(answers) != len(questions):
                raise ValueError(f"{GROUP}: {name} has {len(answers)} answers to {len(questions)} questions")
            counts.append(float(len(questions)))
            for answer, question in zip(answers, questions, strict=True):
                given, references = normalise(answer), [normalise(one) for one in question["answers"]]
                vqa.append(vqa_accuracy(given, references))
                exact.append(float(given in references))
                empty += not given
                others[len(references)] += 1
                texts.append(given)
        series = {EXACT: exact, COUNTS: counts, f"{GROUP}/empty_count": [float(empty)]}
        missing = {}
        if set(others) <= {ANSWERS}:
            series[VQA] = vqa
        else:
            count = next(count for count in others if count != ANSWERS)
            missing[VQA] = f"VQA accuracy needs {ANSWERS} answers for each question, and a question has {count}"
        return Samples(
            {name: np.array(values, np.float64) for name, values in series.items()},
            missing,
            flags=_flag_constant(texts, exact),
        )

    def compute(self, samples: Samples) -> Metrics:
        """Compute the means over questions, intervals, and the numbers of questions and of empty answers."""
        exact, empty = samples.get(EXACT), samples.get(f"{GROUP}/empty_count")
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name, series in ((f"{GROUP}_vqa_accuracy_fraction", VQA), (f"{GROUP}_exact_match_fraction", EXACT)):
            scores = samples.get(series)
            values[name] = float(scores.mean()) if len(scores) else None
            if not len(scores):
                reasons[name] = "no image has a question" if series in samples.series else samples.why_missing(series)
        values[f"{GROUP}_questions_count"] = float(len(exact)) if len(empty) else None
        values[f"{GROUP}_empty_count"] = float(empty[0]) if len(empty) else None
        if not len(empty):
            reasons |= dict.fromkeys(
                (f"{GROUP}_questions_count", f"{GROUP}_empty_count"), samples.why_missing(f"{GROUP}/empty_count")
            )
        names = [name for name in values if name.endswith("_fraction")]
        return with_intervals(Metrics(values, reasons), names, self.contributions(samples), samples)

    def contributions(self, samples: Samples) -> dict[str, Contributions]:
        """Return for each image the sum over its questions, and their number."""
        counts = samples.get(COUNTS)
        contributions = {}
        for name, series, make in (("vqa_accuracy", VQA, mean_of), ("exact_match", EXACT, hits_of)):
            scores = samples.get(series)
            if len(scores) and len(counts):
                contributions[f"{GROUP}_{name}_fraction"] = make(sum_per_image(scores, counts), counts)
        return contributions


def _flag_constant(answers: Sequence[str], exact: Sequence[float]) -> dict[str, str]:
    """Return a flag if all answers are the same text and some of them are wrong."""
    if len(answers) < 2 or len(set(answers)) > 1 or all(exact):
        return {}
    return {"answers_constant": f"all {len(answers)} answers are '{answers[0]}'"}
