"""The words of a search of `visionbench tune`: tables, the Pareto front, the result, and its part of the report."""

from dataclasses import replace

import pytest

from visionbench.core import ConfigError
from visionbench.records.tuning import (
    BROKEN,
    FINISHED,
    MEASURED,
    OPEN,
    PRUNED,
    Figure,
    Finalist,
    Measurement,
    Quality,
    Tried,
    TuneRecord,
)
from visionbench.report import tuning, tuning_figure


def combination(precision="fp32", runtime="eager", attention="auto", threads="null"):
    return {"precision": precision, "runtime": runtime, "attention": attention, "threads": threads}


def one(size, speed, latency, verdict="valid", **options):
    figures = (Figure(speed, 0.9 * speed, 1.1 * speed), Figure(latency), Figure(2 * latency), 100.0)
    return Measurement(size, "ok", verdict, "run_delay" * (verdict != "valid"), *figures, **options)


TRIED = (
    Tried(combination(), MEASURED, "no gain", (one(1, 50, 20), one(4, 100, 40))),
    Tried(combination("bf16", "openvino"), MEASURED, "", (one(1, 90, 11), one(8, 400, 20), one(16, 390, 41))),
    Tried(combination("int8_dynamic"), MEASURED, "", (one(1, 900, 1, "invalid"), one(8, 300, 26, "warned"))),
    Tried(combination("fp16"), PRUNED, "cannot win: 10% of the best so far", (one(8, 40, 200),)),
    Tried(
        combination("fp16", threads="1"),
        PRUNED,
        "cannot win: with other threads, attention or memory format 10% of the best",
    ),
)
RECORD = TuneRecord(
    "2026-11-26_12-00-00",
    "2026-11-26T12:00:00+00:00",
    {},
    "clip_tiny",
    "throughput",
    {},
    {"precision": ("fp32", "bf16"), "batch size": ("1", "4", "8", "16")},
    40,
    14,
    tried=TRIED,
)
FINALS = (
    Finalist(combination(), one(4, 100, 40), baseline=True, to_best=Figure(0.25, 0.24, 0.26)),
    Finalist(
        combination("bf16", "openvino"),
        one(8, 400, 20),
        Figure(4.0, 3.9, 4.1),
        quality=Quality("R@1", 0.9, Figure(0.999, 0.99, 1.001)),
    ),
)
ENDED = replace(RECORD, state=FINISHED, finalists=FINALS, best=1)


def names(points):
    return [(values["precision"], each.batch_size) for values, each in points]


def test_no_measurement_of_the_front_has_less_throughput_and_more_latency_than_another():
    assert names(tuning.front(RECORD)) == [("bf16", 1), ("bf16", 8)]


def test_an_invalid_measurement_is_not_part_of_the_front():
    assert ("int8_dynamic", 1) not in names(tuning.measured(RECORD))


def test_configurations_are_listed_with_the_best_first_and_a_mark():
    rows = tuning.tried(RECORD).rows
    assert [row[0] for row in rows] == ["bf16 · openvino", "int8_dynamic · eager", "fp32 · eager", "fp16 · eager"]
    assert rows[1][2:4] == ["8", "300 ?"]
    assert rows[3][-1] == "pruned: cannot win: 10% of the best so far"


def test_configurations_that_were_not_measured_are_counted_and_listed_in_the_report():
    assert "not measured: 1 × cannot win with other threads, attention or memory format" in list(tuning.notes(RECORD))
    assert tuning.tried(RECORD, every=True).rows[-1][0] == "fp16 · eager · threads 1"


def test_invalid_trials_are_counted():
    assert next(line for line in tuning.notes(RECORD) if "invalid" in line and "trials" in line).startswith("1 of 8")


def test_a_broken_and_an_open_bound_have_signs():
    record = replace(RECORD, tried=(Tried(combination(), MEASURED, "", (one(1, 50, 20, bounds=BROKEN),)),))
    assert tuning.tried(record).rows[0][5] == "40 >"
    record = replace(RECORD, tried=(Tried(combination(), MEASURED, "", (one(1, 50, 20, bounds=OPEN),)),))
    assert tuning.tried(record).rows[0][5] == "40 ~"


def test_the_result_has_the_figures_the_ratio_and_the_quality():
    words = tuning.result(ENDED)
    assert words.title == "best: bf16 · openvino, batch size 8"
    assert list(words.lines) == [
        "400 [360, 440] images/s · p50 20 ms · p95 40 ms · peak 100 MiB",
        "throughput ÷ that of the baseline (fp32 · eager, batch size 4): 4.000 [3.900, 4.100]",
        "R@1 ÷ that of eager fp32: 0.9990 [0.9900, 1.0010]",
    ]


def test_a_questionable_best_result_is_named_in_the_title():
    finals = (FINALS[0], replace(FINALS[1], measurement=one(8, 400, 20, "warned")))
    assert tuning.headline(replace(ENDED, finalists=finals)).startswith("best: questionable: bf16")


def test_without_a_best_result_the_title_is_no_configuration():
    record = replace(ENDED, best=None, notes=("a note",))
    assert tuning.headline(record) == "no configuration is valid and holds all bounds"
    assert list(tuning.sentences(record)) == ["a note"]


def test_an_unfinished_search_has_no_result():
    assert tuning.headline(RECORD) == "the search has not ended: 8 of at most 14 trials are measured"


def test_equal_reasons_are_listed_together():
    reasons = {"a": "x", "b": "y", "c": "x"}
    assert list(tuning.left_out(reasons)) == ["a, c: x", "b: y"]


def test_the_figure_shows_all_measurements_that_are_not_invalid():
    assert tuning_figure.draw(RECORD, "en").drawn == 7
    assert tuning_figure.draw(replace(RECORD, tried=()), "en") is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_tables_have_a_heading_for_each_column(language):
    for table in tuning.result(ENDED, language, every=True).tables:
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_a_record_is_read_as_it_was_written(tmp_path):
    ENDED.write(tmp_path)
    assert TuneRecord.read(tmp_path) == ENDED


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    replace(ENDED, schema=99).write(tmp_path)
    with pytest.raises(ConfigError, match="written by a newer visionbench"):
        TuneRecord.read(tmp_path)


def test_a_folder_without_a_search_has_no_record(tmp_path):
    assert TuneRecord.read(tmp_path) is None
