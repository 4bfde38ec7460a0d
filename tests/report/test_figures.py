"""The figures of one run: throughput and latency over batch size, and the confusion matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from saved_runs import record

from visionbench.core import INTERRUPTED, OK, OUT_OF_MEMORY, Case, CaseResult, Metrics, Reason, Validity
from visionbench.report.drawing import BLUE, VERMILLION
from visionbench.report.figures import confusion_matrix, throughput_latency

RECORD = record(
    kind="cuda:0",
    precision="bf16",
    host={"torch": None},
    device={"device_name": "NVIDIA H100", "threads": 8, "driver": "560.35"},
)
BATCHES = (1, 2, 4, 8)


def case(batch_size: int) -> Case:
    return Case(f"batch-{batch_size}", batch_size, ("latency", "throughput"), ())


def measured(batch_size: int, verdict: str = "valid", unit: str = "images") -> CaseResult:
    p50 = 1.0 + batch_size
    ends = {"latency_p50_within_process_low_ms": p50 * 0.9, "latency_p50_within_process_high_ms": p50 * 1.1}
    metrics = Metrics({"latency_p50_ms": p50, **ends, f"throughput_{unit}_per_s": 1000 * batch_size / p50})
    reasons = () if verdict == "valid" else ("run_delay: 7 % of the window",)
    return CaseResult(case(batch_size), OK, None, metrics, Validity(verdict, tuple(map(Reason.parse, reasons))))


def texts(*results: CaseResult) -> list[str]:
    figure = throughput_latency(RECORD, results)
    return [text.get_text() for artist in (figure, *figure.axes) for text in artist.texts]


def test_a_case_whose_size_no_search_has_found_is_not_drawn(tmp_path: Path) -> None:
    interrupted = CaseResult(Case("batch-auto", 0, ("latency", "throughput"), ()), INTERRUPTED, "Ctrl-C")
    throughput_latency(RECORD, [interrupted]).savefig(tmp_path / "figure.png")  # no warning, which would be an error
    assert INTERRUPTED not in texts(interrupted, measured(4))


def test_the_figure_is_written_as_png(tmp_path: Path) -> None:
    throughput_latency(RECORD, [measured(1), measured(64)]).savefig(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size == (990, 462)


def test_axes_have_units_and_batch_sizes() -> None:
    left, right = throughput_latency(RECORD, [measured(1), measured(4), measured(64)]).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("throughput (images/s)", "latency of a batch, p50 (ms)")
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "4", "64"]
    assert list(left.lines[0].get_ydata()) == [500.0, 800.0, pytest.approx(984.6, abs=0.1)]


def test_the_conditions_are_above_the_axes() -> None:
    assert texts(measured(1))[:2] == [
        "clip_tiny · cuda:0 · bf16",
        "NVIDIA H100 · bf16 · protocol quick · 8 threads · driver 560.35",
    ]


@pytest.mark.parametrize(("verdict", "colour"), [("valid", BLUE), ("warned", BLUE), ("invalid", VERMILLION)])
def test_a_doubt_has_a_text_and_an_invalid_point_has_a_colour(verdict: str, colour: str) -> None:
    figure = throughput_latency(RECORD, [measured(1), measured(4, verdict)])
    assert [line.get_color() for line in figure.axes[0].lines][-1] == colour
    assert (f"{verdict}: run_delay" in [text.get_text() for text in figure.texts]) == (verdict != "valid")


def test_each_kind_of_doubt_is_listed_once_within_the_figure() -> None:
    names = "run_delay", "steal", "involuntary_switches", "autocorrelated", "halves_differ", "warmup_unstable"

    reasons = tuple(map(Reason, names))
    doubts = [
        replace(measured(size), validity=Validity("warned", reasons[index:] + reasons[:index]))
        for index, size in enumerate(BATCHES)
    ]
    figure = throughput_latency(RECORD, doubts)
    renderer = FigureCanvasAgg(figure).get_renderer()
    (doubts_text,) = [text for text in figure.texts if text.get_text().startswith("warned: ")]
    assert [doubts_text.get_text().count(name) for name in names] == [1] * len(names)
    assert doubts_text.get_window_extent(renderer).x1 <= figure.bbox.x1


def test_a_batch_size_without_numbers_has_its_status() -> None:
    assert texts(measured(1), CaseResult(case(8), OUT_OF_MEMORY, "no room")).count("out of memory") == 2


def test_the_unit_of_throughput_may_be_tokens_or_missing() -> None:
    assert throughput_latency(RECORD, [measured(1, unit="tokens")]).axes[0].get_ylabel() == "throughput (tokens/s)"
    assert texts(CaseResult(case(1), OUT_OF_MEMORY, "no room")).count("no value") == 2
    assert texts().count("no value") == 2


# ------------------------------------------------------------------------------------------------- confusion of classes
def draw_confusion(classes: int, truth: list[int], predicted: list[int]) -> Any:
    names = [f"class {index}" for index in range(classes)]
    return confusion_matrix(RECORD, names, np.array(truth, float), np.array(predicted, float))


def test_a_matrix_of_few_classes_has_their_names_and_counts() -> None:
    figure = draw_confusion(3, [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 2, 0])
    (axes,) = figure.axes
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 2): "1", (2, 0): "1"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 0", "class 1", "class 2"]
    assert "6 images, 66.7% on the diagonal" in figure.get_suptitle()
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_a_matrix_of_many_classes_lists_the_most_confused_pairs() -> None:
    truth = [*range(100), 7, 7, 7, 5, 5]
    predicted = [*range(100), 9, 9, 9, 6, 6]
    (axes,) = draw_confusion(100, truth, predicted).axes
    assert not axes.texts
    title = axes.get_title(loc="left")
    assert title.splitlines() == ["class 7 predicted as class 9: 3", "class 5 predicted as class 6: 2"]


def test_a_confusion_matrix_is_written_as_png(tmp_path: Path) -> None:
    draw_confusion(15, [0, 1, 2], [0, 1, 3]).savefig(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 500
