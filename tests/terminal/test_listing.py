"""Sweeps and runs in a line each."""

from saved_runs import QUALITY, row, run

from visionbench.core import INVALID, OUT_OF_MEMORY, WARNED, Case
from visionbench.terminal import listing

BATCH_8 = Case("batch-8", 8, ("latency",), ("latency",))
FULL = run(
    row(case=BATCH_8, throughput_images_per_s=200.123456789, latency_p50_ms=40.0, memory_process_peak_mib=900.5),
    row(throughput_images_per_s=100.0, latency_p50_ms=9.87654321, memory_process_peak_mib=800.0, verdict=WARNED),
    row(
        case=QUALITY, recall_i2t_at_1_fraction=0.5, evaluation_images_per_s=9.0, none={"recall_t2i_median_rank": "why"}
    ),
)
FAILED = run(
    row(status=OUT_OF_MEMORY, reason="no room"), name="sam_tiny", kind="cuda:0", precision="bf16", status="failed"
)


def test_a_run_has_its_best_numbers_with_their_batch_size_to_full_precision():
    found = listing.of_run(FULL)
    assert found["batch_sizes"] == [1, 8]
    assert found["best_throughput_per_s"] == 200.123456789
    assert (found["best_throughput_metric"], found["best_throughput_batch_size"]) == ("throughput_images_per_s", 8)
    assert found["lowest_latency_p50_ms"] == 9.87654321
    assert (found["peak_memory_mib"], found["peak_memory_metric"]) == (900.5, "memory_process_peak_mib")
    assert found["quality"] == {"recall_i2t_at_1_fraction": 0.5}
    assert (found["validity"], found["failures"], found["status"]) == (WARNED, 0, "finished")


def test_a_run_without_numbers_has_the_same_keys():
    found = listing.of_run(FAILED)
    assert list(found) == list(listing.of_run(FULL))
    assert (found["validity"], found["failures"], found["quality"]) == (None, 1, {})
    assert found["best_throughput_per_s"] is found["best_throughput_batch_size"] is found["peak_memory_mib"] is None


def test_invalid_cases_do_not_give_the_best_numbers_but_the_verdict():
    found = listing.of_run(run(row(latency_p50_ms=2.0), row(case=BATCH_8, latency_p50_ms=1.0, verdict=INVALID)))
    assert (found["lowest_latency_p50_ms"], found["validity"]) == (2.0, INVALID)


def test_a_sweep_gathers_what_its_runs_are_and_how_they_ended():
    found = listing.of_sweep("s", [FULL, FAILED, FULL])
    assert found["sweep"] == "s" and found["runs"] == 3
    assert found["models"] == ["clip_tiny", "sam_tiny"]
    assert (found["devices"], found["precisions"]) == (["cpu", "cuda:0"], ["fp32", "bf16"])
    assert (found["statuses"], found["validity"], found["failures"]) == ({"finished": 2, "failed": 1}, WARNED, 1)
    assert found["started_at"] == FULL.record.started_at
