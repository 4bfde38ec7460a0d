"""The facts and main numbers of sweeps and runs."""

from saved_runs import QUALITY, row, run

from visionbench.core import INVALID, OUT_OF_MEMORY, WARNED, Case
from visionbench.results.naming import Names
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


def of_run(one):
    return listing.of_run(one, Names.of([one]))


def test_a_run_has_its_best_numbers_with_all_digits_and_their_batch_size():
    facts = of_run(FULL)
    assert facts["batch_sizes"] == [1, 8]
    assert facts["best_throughput_per_s"] == 200.123456789
    assert (facts["best_throughput_metric"], facts["best_throughput_batch_size"]) == ("throughput_images_per_s", 8)
    assert facts["lowest_latency_p50_ms"] == 9.87654321
    assert (facts["peak_memory_mib"], facts["peak_memory_metric"]) == (900.5, "memory_process_peak_mib")
    assert facts["quality"] == {"recall_i2t_at_1_fraction": 0.5}
    assert (facts["validity"], facts["failures"], facts["status"]) == (WARNED, 0, "finished")


def test_a_run_without_numbers_has_the_same_keys():
    facts = of_run(FAILED)
    assert list(facts) == list(of_run(FULL))
    assert (facts["validity"], facts["failures"], facts["quality"]) == (None, 1, {})
    assert facts["best_throughput_per_s"] is facts["best_throughput_batch_size"] is facts["peak_memory_mib"] is None


def test_the_best_numbers_exclude_invalid_cases_and_the_verdict_includes_them():
    facts = of_run(run(row(latency_p50_ms=2.0), row(case=BATCH_8, latency_p50_ms=1.0, verdict=INVALID)))
    assert (facts["lowest_latency_p50_ms"], facts["validity"]) == (2.0, INVALID)


def test_a_sweep_lists_models_devices_precisions_and_statuses_of_its_runs():
    facts = listing.of_sweep("s", [FULL, FAILED, FULL])
    assert facts["sweep"] == "s" and facts["runs"] == 3
    assert facts["models"] == ["clip_tiny", "sam_tiny"]
    assert (facts["devices"], facts["precisions"]) == (["cpu", "cuda:0"], ["fp32", "bf16"])
    assert (facts["statuses"], facts["validity"], facts["failures"]) == ({"finished": 2, "failed": 1}, WARNED, 1)
    assert facts["started_at"] == FULL.record.started_at
