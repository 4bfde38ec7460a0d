"""The evaluation of a model at an endpoint: each image is one request, and each answer becomes a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from visionbench.core import Connects, Inputs, Picture, Row, Unanswered
from visionbench.remote.requests import Outcome, Requests

IMAGES = "images"


@dataclass
class RemotePredictor:
    """The model in the evaluation, in place of a loaded model; see `core.Predictor`."""

    adapter: Connects
    requests: Requests
    in_flight: int
    outcomes: list[Outcome] = field(default_factory=list)
    """The results of all requests."""

    def evaluator(self, columns: frozenset[str], classes: Sequence[str]) -> RemoteEvaluator:
        """Return the evaluator for these columns and classes."""
        return RemoteEvaluator(self, columns, tuple(classes))


@dataclass(frozen=True)
class RemoteEvaluator:
    """The three steps of a batch; see `core.Evaluator`."""

    predictor: RemotePredictor
    columns: frozenset[str]
    classes: Sequence[str]

    def prepare(self, pictures: Sequence[Picture]) -> Inputs:
        """Encode the images."""
        return {IMAGES: [self.predictor.requests.endpoint.encode(picture.image) for picture in pictures]}

    def forward(self, inputs: Inputs) -> list[Outcome]:
        """Send one request for each image, and return the results in the order of the images. No failure is raised."""
        predictor = self.predictor
        images = inputs[IMAGES]
        results: dict[int, Outcome] = {}
        prompt = predictor.adapter.prompt_for(self.classes)
        for index, outcome in predictor.requests.send_all(images, prompt, predictor.in_flight):
            results[index] = outcome
        ordered = [results[index] for index in range(len(images))]
        predictor.outcomes += ordered
        return ordered

    def finish(self, output: Any, pictures: Sequence[Picture]) -> list[Row | Unanswered]:
        """Return the row of each answer. A refusal is a wrong answer; a failed request gives no row."""
        adapter = self.predictor.adapter
        rows: list[Row | Unanswered] = []
        for outcome in output:
            if outcome.answered or outcome.refused:
                text = outcome.last.text if outcome.answered else ""
                rows.append(adapter.to_row(text, self.columns, self.classes))
            else:
                rows.append(Unanswered(outcome.failure))
        return rows
